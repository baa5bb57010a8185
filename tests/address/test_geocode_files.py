"""Files of addresses over HTTP, answered while they are read, and on the command line."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import structlog
from click.testing import CliRunner
from httpx import ASGITransport, AsyncClient, Response
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.address.controllers import files
from bkapp.address.csvfiles.results import RESULTS
from bkapp.address.operations.files import BATCH
from bkapp.address.operations.finding import Finder
from bkapp.app import create_app
from bkapp.cli import main
from bkapp.config import Settings
from bkapp.db import Sessions, open_engine, sessions_of
from bkapp.edge import Edge
from tests import make
from tests.address.geocode_files import (
    CSV,
    FILE,
    JOBS,
    a_finder,
    a_register,
    failing,
    many,
    problem,
    rows_of,
    upload,
)


@pytest.fixture
async def register(session: AsyncSession) -> None:
    await a_register(session)


@pytest.mark.usefixtures("register")
class TestAnswer:
    async def test_is_what_a_client_of_addok_expects(self, client: AsyncClient) -> None:
        # curl -F data=@danh\ sách.csv -F columns=adresse -F columns=commune …/search/csv/
        answer = await client.post(f"{CSV}/", **upload(FILE), data={"columns": ["adresse", "commune"]})

        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/csv; charset=utf-8"
        assert answer.headers["content-disposition"] == (
            "attachment; filename=\"danh s_ch.geocoded.csv\"; filename*=UTF-8''danh%20s%C3%A1ch.geocoded.csv"
        )
        assert answer.headers["x-total-rows"] == "3"
        assert "idempotent-replayed" not in answer.headers
        assert answer.text.startswith(f"tên;adresse;commune;{';'.join(RESULTS)}\r\nÔng A;số 14a thôn Nà Ít;Phủ Thông;")
        house, hamlet, nothing = rows_of(answer.content)
        assert hamlet["tên"] == "Bà B; C"
        assert (house["result_type"], house["result_level"], house["result_class"]) == ("housenumber", "house", "A")
        assert (house["result_housenumber"], house["result_hamlet"]) == ("14A", "Thôn Nà Ít")
        assert (hamlet["result_type"], hamlet["result_citycode"]) == ("locality", make.COMMUNE)
        assert 0 < float(hamlet["result_score"]) <= 1
        assert 21 < float(hamlet["latitude"]) < 23
        assert (nothing["latitude"], nothing["result_class"], nothing["result_error"]) == ("", "C", "empty")

    async def test_tells_no_code_and_no_door(self, client: AsyncClient, session: AsyncSession) -> None:
        key = await make.a_key(session)
        await session.commit()
        for headers in ({}, {"Authorization": f"Bearer {key}"}):
            answer = await client.post(CSV, **upload(FILE), headers=headers)
            house, hamlet, _ = rows_of(answer.content)
            assert house["result_id"] == ""
            assert (house["latitude"], house["longitude"]) == (hamlet["latitude"], hamlet["longitude"])

    async def test_takes_its_options_from_the_query_string_too(self, client: AsyncClient) -> None:
        address = f"{CSV}?columns=adresse&columns=commune&with_bom=true&delimiter=;&lat=tên"
        answer = await client.post(address, **upload(FILE), data={"lat": "", "lon": ""})
        assert answer.status_code == 200
        assert answer.content.startswith(b"\xef\xbb\xbf")
        assert rows_of(answer.content)[0]["result_class"] == "A"

    async def test_is_the_same_for_a_field_without_a_file_name(self, client: AsyncClient) -> None:
        body = b'--x\r\nContent-Disposition: form-data; name="data"\r\n\r\n' + FILE.encode() + b"\r\n--x--\r\n"
        answer = await client.post(CSV, content=body, headers={"Content-Type": "multipart/form-data; boundary=x"})
        assert answer.headers["content-disposition"].startswith('attachment; filename="addresses.geocoded.csv"')
        assert len(rows_of(answer.content)) == 3

    async def test_prefers_what_is_near_and_demands_what_a_column_demands(self, client: AsyncClient) -> None:
        file = "a;y;x;mã\nNà Ít;22.2;105.8;01969\nNà Ít;0;0;01840\n"
        answer = await client.post(CSV, **upload(file), data={"columns": "a", "lat": "y", "lon": "x", "citycode": "mã"})
        near, elsewhere = rows_of(answer.content)
        assert (near["result_citycode"], near["result_error"]) == ("01969", "")
        assert (elsewhere["result_citycode"], elsewhere["result_error"]) == ("", "coordinates: no place in Vietnam")

    async def test_of_a_file_without_rows_is_its_head(self, client: AsyncClient) -> None:
        answer = await client.post(CSV, **upload("a;b\n"))
        assert answer.text == f"a;b;{';'.join(RESULTS)}\r\n"

    async def test_says_of_a_row_that_is_too_long_what_is_wrong(self, client: AsyncClient) -> None:
        answer = await client.post(CSV, **upload(f"a;b\n{'Nà Ít ' * 200};\nNà Ít;Phủ Thông\n"))
        assert [row["result_error"] for row in rows_of(answer.content)] == ["too_long", ""]

    async def test_keeps_texts_out_of_the_log(self, client: AsyncClient) -> None:
        with structlog.testing.capture_logs() as logs:
            await client.post(CSV, **upload(FILE))
        assert logs[-1]["route"] == CSV
        assert not any(word in repr(logs) for word in ("Nà Ít", "Ông A", "danh"))


class TestRefusal:
    @pytest.mark.parametrize(
        ("content", "fields", "expected"),
        [
            (FILE, {"columns": ["adresse", "ville"]}, (422, "geocode_file_unreadable", ["/columns/1"])),
            (FILE, {"encoding": "klingon"}, (422, "geocode_file_unreadable", ["/encoding"])),
            (FILE, {"delimiter": "ab"}, (422, "geocode_file_unreadable", ["/delimiter"])),
            (FILE, {"colums": "a"}, (422, "geocode_file_unreadable", ["/colums"])),
            (FILE, {"lat": "tên"}, (422, "geocode_file_unreadable", ["/lon"])),
            (FILE.encode("utf-16-be"), {}, (422, "geocode_file_unreadable", ["/encoding"])),
            (b"", {}, (422, "geocode_file_unreadable", ["/data"])),
            (b"PK\x03\x04", {}, (422, "geocode_file_unreadable", ["/data"])),
        ],
    )  # fmt: skip
    async def test_of_a_file_says_where_and_why(
        self, client: AsyncClient, content: Any, fields: dict[str, Any], expected: tuple[int, str, list[str]]
    ) -> None:
        assert problem(await client.post(CSV, **upload(content), data=fields)) == expected

    async def test_of_a_column_names_those_there_are(self, client: AsyncClient) -> None:
        told = (await client.post(CSV, **upload(FILE), data={"columns": "ville"})).json()
        assert told["detail"] == "The file has no such column; it has tên, adresse, commune."
        assert told["columns"] == ["tên", "adresse", "commune"]

    @pytest.mark.parametrize(
        ("body", "kind", "expected"),
        [
            (b"{}", "application/json", (415, "unsupported_media_type", [])),
            (b"a=b", "application/x-www-form-urlencoded", (415, "unsupported_media_type", [])),
            (b"", "multipart/form-data; boundary=x", (400, "malformed", [""])),
            (b"--x--\r\n", "multipart/form-data; boundary=x", (400, "malformed", ["/data"])),
            (b"--x\r\n", "multipart/form-data; boundary=x", (400, "malformed", [""])),
            (b"--x--\r\n", "multipart/form-data", (400, "malformed", [""])),
            (
                b'--x\r\nContent-Disposition: form-data; name="columns"\r\n\r\n\xff\r\n--x--\r\n',
                "multipart/form-data; boundary=x",
                (400, "malformed", ["/columns"]),
            ),
            (
                2 * b'--x\r\nContent-Disposition: form-data; name="data"\r\n\r\n\r\n' + b"--x--\r\n",
                "multipart/form-data; boundary=x",
                (400, "malformed", ["/data"]),
            ),
        ],
    )  # fmt: skip
    async def test_of_what_is_no_form_with_a_file(
        self, client: AsyncClient, body: bytes, kind: str, expected: tuple[int, str, list[str]]
    ) -> None:
        assert problem(await client.post(CSV, content=body, headers={"Content-Type": kind})) == expected

    async def test_of_a_large_file_names_the_way_for_those(self, client: AsyncClient, session: AsyncSession) -> None:
        key = await make.a_key(session)
        await session.commit()
        rows, size = many(files.PUBLIC.rows + 1), b"a;b\n" + b"x;y\n" * (files.PUBLIC.bytes // 4)
        huge = b"a" * (files.WITH_KEY.bytes + 100_000)
        signed = {"Authorization": f"Bearer {key}"}
        for content, headers in ((rows, {}), (size, {}), (huge, {}), (huge, signed)):
            answer = await client.post(CSV, **upload(content), headers=headers)
            assert problem(answer) == (413, "geocode_file_too_large", [])
            assert f"send it to {JOBS} with a key" in answer.json()["detail"]
        assert (await client.post(CSV, **upload(rows.replace("Nà Ít", "")), headers=signed)).status_code == 200

    async def test_of_more_than_some_files_at_a_time(self, client: AsyncClient) -> None:
        for _ in range(files.MOST_AT_ONCE):
            await files._turns.acquire()
        try:
            answer = await client.post(CSV, **upload(FILE))
        finally:
            for _ in range(files.MOST_AT_ONCE):
                files._turns.release()
        assert problem(answer) == (429, "too_many_requests", [])
        assert answer.headers["retry-after"] == "5"
        assert (await client.post(CSV, **upload(FILE))).status_code == 200


@pytest.mark.usefixtures("register")
class TestWhileItIsAnswered:
    def app(self, settings: Settings, sessions: Sessions, finder: Finder | None = None) -> Any:
        return Edge(create_app(settings, sessions, sessions, finder=finder), settings)  # type: ignore[arg-type]

    async def post(self, app: Any, content: str) -> Response:
        transport = ASGITransport(app=app, raise_app_exceptions=False)
        async with AsyncClient(transport=transport, base_url="http://bkapp.test") as client:
            return await client.post(CSV, **upload(content))

    async def raw(
        self,
        app: Any,
        content: str,
        sent: Callable[[dict[str, Any]], Any],
        leave: asyncio.Event | None = None,
        *,
        whole: bool = True,
    ) -> None:
        """One request on the bare protocol, to see each piece when it comes, or to leave."""
        body = b'--x\r\nContent-Disposition: form-data; name="data"\r\n\r\n' + content.encode() + b"\r\n--x--\r\n"
        gone, given = leave or asyncio.Event(), False

        async def receive() -> dict[str, Any]:
            nonlocal given
            if given:
                if whole:
                    await gone.wait()
                return {"type": "http.disconnect"}
            given = True
            return {"type": "http.request", "body": body, "more_body": not whole}

        async def send(message: dict[str, Any]) -> None:
            if asyncio.iscoroutine(waiting := sent(message)):
                await waiting
            if message["type"] == "http.response.body" and not message.get("more_body"):
                gone.set()

        headers = [(b"content-type", b"multipart/form-data; boundary=x"), (b"host", b"bkapp.test")]
        scope = {
            "type": "http", "method": "POST", "path": CSV, "raw_path": CSV.encode(), "query_string": b"",
            "root_path": "", "headers": headers,
            "scheme": "http", "http_version": "1.1", "server": ("bkapp.test", 80), "client": None,
            "state": {}, "extensions": {}, "asgi": {"version": "3.0"},
        }  # fmt: skip
        await app(scope, receive, send)

    async def test_pieces_come_as_they_are_found(self, settings: Settings, sessions: Sessions) -> None:
        pieces: list[bytes] = []
        await self.raw(
            self.app(settings, sessions), many(3 * BATCH), lambda message: pieces.append(message.get("body", b""))
        )
        lines = [piece.count(b"\r\n") for piece in pieces]
        assert lines == [0, BATCH + 1, BATCH, BATCH, 0]

    async def test_who_leaves_in_the_middle_of_a_piece_gives_the_turn_back(
        self, settings: Settings, sessions: Sessions
    ) -> None:
        app = self.app(settings, sessions)
        held: list[Any] = []

        async def leaves() -> None:
            gone = asyncio.Event()

            async def stuck(message: dict[str, Any]) -> None:
                held.append(message)
                if message.get("body"):
                    gone.set()
                    await asyncio.Event().wait()

            await self.raw(app, many(3 * BATCH), stuck, gone)

        for _ in range(files.MOST_AT_ONCE + 1):
            await leaves()
        assert (await self.post(app, many(1))).status_code == 200

    async def test_who_does_not_read_is_not_waited_for(
        self, settings: Settings, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(files, "PATIENCE", 0.01)
        app = self.app(settings, sessions)

        async def never_read(message: dict[str, Any]) -> None:
            if message.get("body"):
                await asyncio.Event().wait()

        with structlog.testing.capture_logs() as lines:
            for _ in range(files.MOST_AT_ONCE + 1):
                await self.raw(app, many(3 * BATCH), never_read)
        assert [line["event"] for line in lines].count("reader_too_slow") == files.MOST_AT_ONCE + 1
        assert (await self.post(app, many(1))).status_code == 200

    async def test_nobody_else_waits_for_a_file(self, settings: Settings, sessions: Sessions) -> None:
        # Others get their turn between two texts, so many times within one batch.
        app = self.app(settings, sessions)
        turns = 0
        done = asyncio.Event()

        async def others() -> None:
            nonlocal turns
            while not done.is_set():
                turns += 1
                await asyncio.sleep(0)

        other = asyncio.create_task(others())
        await self.post(app, many(BATCH))
        done.set()
        await other
        assert turns > BATCH

    async def test_work_ends_when_the_client_has_left(self, settings: Settings, sessions: Sessions) -> None:
        leave = asyncio.Event()
        pieces = []

        def sent(message: dict[str, Any]) -> None:
            pieces.append(message)
            if len(pieces) == 3:
                leave.set()

        with structlog.testing.capture_logs() as logs:
            await asyncio.wait_for(self.raw(self.app(settings, sessions), many(40 * BATCH), sent, leave), 20)
        assert len(pieces) < 10
        assert not files._turns.locked()
        assert files._turns._value == files.MOST_AT_ONCE
        assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == []

    async def test_an_upload_that_breaks_off_is_no_bug(self, settings: Settings, sessions: Sessions) -> None:
        messages: list[dict[str, Any]] = []
        with structlog.testing.capture_logs() as logs:
            await self.raw(self.app(settings, sessions), FILE, messages.append, whole=False)
        assert messages[0]["status"] == 400
        assert [entry["event"] for entry in logs] == ["request"]

    async def test_an_outage_before_the_first_piece_is_an_outage(self, settings: Settings, sessions: Sessions) -> None:
        finder = a_finder(sessions, failing(OperationalError("", None, Exception())))
        answer = await self.post(self.app(settings, sessions, finder), many(3, "x;số 1 thôn Nà Ít;Phủ Thông"))
        assert problem(answer) == (503, "unavailable", [])
        assert files._turns._value == files.MOST_AT_ONCE

    async def test_an_outage_later_is_told_row_by_row(self, settings: Settings, sessions: Sessions) -> None:
        finder = a_finder(sessions, failing(OperationalError("", None, Exception()), after=BATCH))
        lines = [f"x;số {number} thôn Nà Ít;Phủ Thông" for number in range(1, 2 * BATCH)]
        answer = await self.post(self.app(settings, sessions, finder), "\n".join(["a;b;c", *lines]))
        told = [row["result_error"] for row in rows_of(answer.content)]
        assert set(told[:BATCH]) == {""}
        assert set(told[BATCH:]) == {"unavailable"}

    async def test_a_bug_costs_its_own_row_and_logs_no_text(self, settings: Settings, sessions: Sessions) -> None:
        finder = a_finder(sessions, failing(ValueError("số 666"), key="|666"))
        lines = [f"x;số {number} thôn Nà Ít;Phủ Thông" for number in (1, 666, 3)]
        with structlog.testing.capture_logs() as logs:
            answer = await self.post(self.app(settings, sessions, finder), "\n".join(["a;b;c", *lines]))
        assert [row["result_error"] for row in rows_of(answer.content)] == ["", "failed", ""]
        assert [entry["kind"] for entry in logs if entry["event"] == "row_failed"] == ["ValueError"]
        assert "666" not in repr(logs)


@pytest.fixture
def command(own_database: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """``bkapp geocode`` on a register with Nà Ít in it."""
    monkeypatch.setenv("DATABASE_URL", own_database)
    monkeypatch.setenv("BKAPP_DEMO", "1")

    async def fill() -> None:
        engine = open_engine(own_database)
        async with sessions_of(engine)() as session:
            await a_register(session)
        await engine.dispose()

    asyncio.run(fill())
    return lambda *words, **options: CliRunner().invoke(main, ["geocode", *map(str, words)], **options)


class TestCommand:
    def test_writes_a_file_beside_the_first_and_a_summary(self, command: Callable[..., Any], tmp_path: Path) -> None:
        path = tmp_path / "danh sách.csv"
        path.write_text(FILE)

        done = command(path, "--column", "adresse", "--column", "commune", "--with-bom")

        written = (tmp_path / "danh sách.geocoded.csv").read_bytes()
        assert done.exit_code == 0, done.output
        assert "3 rows: A 2, B 0, C 0, not found 1, errors 0; " in done.stderr
        assert "rows/s" in done.stderr
        assert written.startswith(b"\xef\xbb\xbf")
        assert [row["result_level"] for row in rows_of(written)] == ["house", "hamlet", ""]
        assert sorted(each.name for each in tmp_path.iterdir()) == ["danh sách.csv", "danh sách.geocoded.csv"]

    def test_reads_and_writes_standard_streams(self, command: Callable[..., Any]) -> None:
        done = command("-", "--delimiter", ";", input=FILE.encode("utf-16"))
        assert done.exit_code == 0, done.output
        assert done.stdout_bytes.startswith("tên;adresse;commune;latitude".encode())
        assert len(rows_of(done.stdout_bytes)) == 3

    def test_exits_with_1_for_rows_with_errors_and_for_files_it_cannot_read(
        self, command: Callable[..., Any], tmp_path: Path
    ) -> None:
        path, to = tmp_path / "a.csv", tmp_path / "b.csv"
        path.write_text("a,b\nSố 2, Nà Ít, Phủ Thông\nNà Ít,Phủ Thông\n")
        done = command(path, "-o", to)
        assert done.exit_code == 1
        assert "errors 1;" in done.stderr
        assert [row["result_error"] for row in rows_of(to.read_bytes(), ",")] == ["fields: 3 instead of 2", ""]
        refused = command(path, "-o", to, "--column", "c")
        assert (refused.exit_code, refused.stderr) == (1, "bkapp: The file has no such column; it has a, b.\n")

    def test_leaves_nothing_half_done(
        self, command: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "a.csv"
        path.write_text(FILE)
        monkeypatch.setenv("DATABASE_URL", "postgresql://localhost:1/none")
        done = command(path)
        assert (done.exit_code, done.stderr) == (1, "bkapp: the database does not answer; try again.\n")
        assert [each.name for each in tmp_path.iterdir()] == ["a.csv"]
