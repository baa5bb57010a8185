"""What the command prints, each figure beside the bar it is held to."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from bench.geocoding.asking import OURS
from bench.geocoding.scores import BAR_OF_WRONG, BARS, SURE, Bin, Outcome, Score, reaches
from bench.geocoding.speed import AIM_OF_PEER, AIM_OF_PEERS_ROWS, AIM_P50_MS, AIM_P99_MS, percentiles
from bench.load import Sample, median, share
from bench.tables import show

Outcomes = Mapping[str, Sequence[Outcome]]  # by side, ours first


def show_accuracy(outcomes: Outcomes) -> dict[str, Any]:
    """A row for each kind and one for all."""
    by_kind = {name: _by_kind(found) for name, found in outcomes.items()}
    kinds = list(next(iter(by_kind.values())))
    scores = {
        name: {**{kind: Score.of(found[kind]) for kind in kinds}, "all": Score.of(outcomes[name])}
        for name, found in by_kind.items()
    }
    ours = next(iter(scores))
    rows = []
    for kind in [*kinds, "all"]:
        row = [kind, f"{BARS[kind] * 100:g}{'@5' if kind == 'prefix' else ''}" if kind in BARS else ""]
        reached = reaches(kind, scores[ours][kind])
        row.append("" if reached is None or ours != OURS.name else "yes" if reached else "NO")
        for name in scores:
            score = scores[name][kind]
            row += [str(score.first), f"{score.within_five.value * 100:.1f}"]
            row += [f"{score.first_of_answerable.value * 100:.1f}"]
            row += [f"{score.sure_and_wrong.value * 100:.2f}", f"{score.abstained.value * 100:.1f}"]
        rows.append(row)
    head = ["kind", "bar", "held"]
    for name in scores:
        head += [f"{name} @1 [95 %]", "@5", "answerable", "sure, wrong", "no house"]
    show(
        f"The right house, %: first answer, one of five, first where one can know; another house with a score of "
        f"{SURE} or more (bar of all: {BAR_OF_WRONG * 100:g}); no house offered",
        head,
        rows,
    )
    return {name: {kind: score.figures() for kind, score in found.items()} for name, found in scores.items()}


def show_calibration(bins: Mapping[str, Sequence[Bin]]) -> dict[str, Any]:
    """How many of the houses offered with a score are right."""
    rows = [
        [f"{name}, from {one.low:g}", f"{one.mean:.3f}", f"{one.right.value:.3f}", str(one.right.of)]
        for name, found in bins.items()
        for one in found
    ]
    show("Scores of houses offered first, and what they are worth", ["score", "mean", "right", "answers"], rows)
    return {
        name: [
            {"from": one.low, "mean": round(one.mean, 4), "right": round(one.right.value, 4), "count": one.right.of}
            for one in found
        ]
        for name, found in bins.items()
    }


def show_latency(outcomes: Outcomes) -> dict[str, Any]:
    """Milliseconds of the queries one after another."""
    found = {name: percentiles([one.seconds for one in there]) for name, there in outcomes.items()}
    slowest = {
        name: max((percentiles([one.seconds for one in there])[1], kind) for kind, there in _by_kind(all_).items())
        for name, all_ in outcomes.items()
    }
    refused = {name: sum(one.status != 200 for one in there) for name, there in outcomes.items()}
    show(
        f"Milliseconds of an answer over HTTP, one after another (aims: p50 {AIM_P50_MS}, p99 {AIM_P99_MS})",
        ["", "p50", "p99", "worst p99 of a kind", "not 200"],
        [
            [name, f"{p50:.2f}", f"{p99:.2f}", f"{slowest[name][0]:.2f} ({slowest[name][1]})", str(refused[name])]
            for name, (p50, p99) in found.items()
        ],
    )
    return {
        name: {"p50_ms": round(p50, 3), "p99_ms": round(p99, 3), "not_200": refused[name]}
        for name, (p50, p99) in found.items()
    }


def show_throughput(runs: Mapping[str, Sequence[Sample]], connections: int) -> dict[str, Any]:
    """Requests a second, and how many times the peer's."""
    first, *others = runs.values()
    times = share(first, others[0]) if others else None
    middles = {name: median(samples) for name, samples in runs.items()}
    show(
        f"All kinds mixed, {connections} connections (aim: {AIM_OF_PEER} times the peer)",
        ["", "req/s", "p50 ms", "p99 ms", "errors", "times peer"],
        [
            [
                name,
                f"{sample.rps:,.0f}",
                f"{sample.p50_ms:.2f}",
                f"{sample.p99_ms:.2f}",
                str(sample.errors),
                f"{times:.1f}" if times and place == 0 else "",
            ]
            for place, (name, sample) in enumerate(middles.items())
        ],
    )
    return {**middles, "times_peer": round(times, 2)} if times else dict(middles)


def show_rows(rates: Mapping[str, float]) -> dict[str, Any]:
    """Rows of a CSV file a second, and how many times the peer's."""
    first, *others = rates.values()
    times = first / others[0] if others else None
    show(
        f"A CSV file of all kinds mixed (aim: {AIM_OF_PEERS_ROWS} times the peer)",
        ["", "rows/s", "times peer"],
        [
            [name, f"{rate:,.0f}", f"{times:.1f}" if times and place == 0 else ""]
            for place, (name, rate) in enumerate(rates.items())
        ],
    )
    found: dict[str, Any] = {name: round(rate, 1) for name, rate in rates.items()}
    return {**found, "times_peer": round(times, 2)} if times else found


def show_weight(rows: Sequence[tuple[str, str]]) -> dict[str, str]:
    if rows:
        show("What it takes", ["", ""], [list(row) for row in rows])
    return dict(rows)


def show_misses(outcomes: Sequence[Outcome], most: int) -> None:
    """The first wrong answers of each kind: what was asked, what was meant, what came."""
    if not most:
        return
    for kind, found in _by_kind(outcomes).items():
        wrong = [one for one in found if (one.rank is None if kind == "prefix" else one.rank != 0)]
        print(f"\n{kind}: {len(wrong)} of {len(found)}")
        for one in wrong[:most]:
            query = one.query
            doubt = " (unanswerable)" if query.unanswerable else ""
            print(f"  {query.text}\n    meant {query.number}, {query.hamlet}, {query.old_name} {query.new}{doubt}")
            for answer in one.answers[:2]:
                print(f"    came  {answer.score:.2f} {answer.label} [{answer.number}|{answer.hamlet}|{answer.old}]")
            if not one.answers:
                print("    came  nothing")


def _by_kind(outcomes: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    found: defaultdict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        found[outcome.query.kind].append(outcome)
    return dict(found)
