"""Bills, attempts, receipts, refunds, the ledger, webhooks in and out, reconciliation; answers of flows kept by key."""

from alembic import op

revision = "0011"
down_revision = "0010"

LIVE = "('created', 'unknown', 'pending')"
# As bkapp.payments.rules has them; a test compares the tables with the rules.
EDGES = (
    ("created", "timed_out", "unknown"),
    ("created", "submitted", "pending"),
    ("unknown", "submitted", "pending"),
    ("created", "paid", "succeeded"),
    ("created", "refused", "failed"),
    ("created", "expired", "expired"),
    ("unknown", "paid", "succeeded"),
    ("unknown", "refused", "failed"),
    ("unknown", "expired", "expired"),
    ("pending", "paid", "succeeded"),
    ("pending", "refused", "failed"),
    ("pending", "expired", "expired"),
    ("expired", "late_money", "succeeded"),
    ("expired", "refused", "failed"),
    ("failed", "late_money", "succeeded"),
    ("succeeded", "overruled", "failed"),
)
REFUND_EDGES = (
    ("waiting", "approved"),
    ("waiting", "rejected"),
    ("approved", "failed"),
    ("approved", "pending"),
    ("approved", "rejected"),
    ("approved", "succeeded"),
    ("approved", "unknown"),
    ("unknown", "failed"),
    ("unknown", "pending"),
    ("unknown", "succeeded"),
    ("pending", "failed"),
    ("pending", "succeeded"),
    ("failed", "succeeded"),
)
KEPT = ("ledger_transaction", "ledger_entry", "payment_event", "refund_event")


def upgrade() -> None:
    # A request whose flow calls somebody outside claims its key before and stores its answer after.
    op.execute("ALTER TABLE idempotency_key ADD COLUMN in_flight_until timestamptz")
    _bills()
    _merchants()
    _attempts()
    _receipts()
    _refunds()
    _cases()
    _ledger()
    _webhooks_in()
    _webhooks_out()
    _statements()
    for table in KEPT:
        op.execute(f"""
            CREATE TRIGGER {table}_keep BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}
            FOR EACH STATEMENT EXECUTE FUNCTION audit_keep()
        """)


def _bills() -> None:
    op.execute("""
        CREATE TABLE beneficiary (
            id uuid NOT NULL DEFAULT gen_random_uuid(),
            name text NOT NULL,
            bank_bin text NOT NULL,
            account text NOT NULL,
            account_name text NOT NULL,
            treasury text,
            created_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT pk_beneficiary PRIMARY KEY (id),
            CONSTRAINT uq_beneficiary_bank_bin_account UNIQUE (bank_bin, account),
            CONSTRAINT ck_beneficiary_bank_bin CHECK (bank_bin ~ '^[0-9]{6}$'),
            CONSTRAINT ck_beneficiary_account CHECK (account ~ '^[0-9A-Z]{4,19}$')
        )
    """)
    op.execute("""
        CREATE TABLE procedure_account (
            procedure_code text NOT NULL,
            beneficiary_id uuid NOT NULL,
            CONSTRAINT pk_procedure_account PRIMARY KEY (procedure_code),
            CONSTRAINT fk_procedure_account_beneficiary_id FOREIGN KEY (beneficiary_id) REFERENCES beneficiary (id)
        )
    """)
    op.execute("""
        CREATE TABLE bill (
            id uuid NOT NULL DEFAULT gen_random_uuid(),
            code text NOT NULL,
            status varchar(32) NOT NULL DEFAULT 'open',
            amount bigint NOT NULL,
            description text NOT NULL,
            dossier_code text,
            procedure_code text NOT NULL,
            procedure_name text NOT NULL,
            beneficiary_id uuid NOT NULL,
            unit_id bigint,
            payer_id uuid,
            payer_hmac bytea,
            payer_name_cipher bytea,
            due_on date,
            on_paid text,
            created_at timestamptz NOT NULL DEFAULT now(),
            created_by text NOT NULL,
            paid_at timestamptz,
            cancelled_at timestamptz,
            cancelled_by text,
            version integer NOT NULL DEFAULT 1,
            CONSTRAINT pk_bill PRIMARY KEY (id),
            CONSTRAINT uq_bill_code UNIQUE (code),
            CONSTRAINT fk_bill_beneficiary_id FOREIGN KEY (beneficiary_id) REFERENCES beneficiary (id),
            CONSTRAINT fk_bill_unit_id FOREIGN KEY (unit_id) REFERENCES admin_unit (id),
            CONSTRAINT fk_bill_payer_id FOREIGN KEY (payer_id) REFERENCES person (id),
            CONSTRAINT ck_bill_status CHECK (status IN ('open', 'paid', 'cancelled')),
            CONSTRAINT ck_bill_amount CHECK (amount BETWEEN 1 AND 9999999999),
            CONSTRAINT ck_bill_paid CHECK ((paid_at IS NULL) = (status <> 'paid')),
            CONSTRAINT ck_bill_cancelled CHECK ((cancelled_at IS NULL) = (status <> 'cancelled'))
        )
    """)
    op.execute("CREATE INDEX ix_bill_payer_id_created_at ON bill (payer_id, created_at)")
    op.execute("CREATE INDEX ix_bill_payer_hmac ON bill (payer_hmac) WHERE payer_hmac IS NOT NULL")
    op.execute("CREATE INDEX ix_bill_dossier_code ON bill (dossier_code) WHERE dossier_code IS NOT NULL")
    op.execute("CREATE INDEX ix_bill_unit_id_created_at ON bill (unit_id, created_at)")
    op.execute("""
        CREATE TABLE bill_line (
            bill_id uuid NOT NULL,
            position integer NOT NULL,
            kind varchar(32) NOT NULL,
            code text NOT NULL,
            name text NOT NULL,
            amount bigint NOT NULL,
            CONSTRAINT pk_bill_line PRIMARY KEY (bill_id, position),
            CONSTRAINT fk_bill_line_bill_id FOREIGN KEY (bill_id) REFERENCES bill (id),
            CONSTRAINT ck_bill_line_kind CHECK (kind IN ('fee', 'charge', 'delivery')),
            CONSTRAINT ck_bill_line_amount CHECK (amount > 0)
        )
    """)
    # A bill's lines add up to what it asks, whenever a transaction ends.
    op.execute("""
        CREATE FUNCTION bill_adds_up() RETURNS trigger LANGUAGE plpgsql AS $$
        DECLARE one uuid := coalesce(to_jsonb(NEW) ->> 'bill_id', to_jsonb(NEW) ->> 'id')::uuid;
        BEGIN
            IF (SELECT amount FROM bill WHERE id = one) IS DISTINCT FROM
               (SELECT sum(amount)::bigint FROM bill_line WHERE bill_id = one) THEN
                RAISE EXCEPTION 'the lines of bill % do not add up to its amount', one
                    USING ERRCODE = 'check_violation', CONSTRAINT = 'ck_bill_adds_up';
            END IF;
            RETURN NULL;
        END $$
    """)
    for table, moments in (("bill", "INSERT OR UPDATE OF amount"), ("bill_line", "INSERT OR UPDATE OR DELETE")):
        op.execute(f"""
            CREATE CONSTRAINT TRIGGER {table}_adds_up AFTER {moments} ON {table}
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION bill_adds_up()
        """)


def _merchants() -> None:
    op.execute("""
        CREATE TABLE merchant (
            id uuid NOT NULL DEFAULT gen_random_uuid(),
            key text NOT NULL,
            provider text NOT NULL,
            code text NOT NULL,
            title text NOT NULL,
            options jsonb NOT NULL DEFAULT '{}',
            allowed_ips text[] NOT NULL DEFAULT '{}',
            position integer NOT NULL DEFAULT 0,
            calls_per_minute integer NOT NULL DEFAULT 60,
            call_tokens double precision NOT NULL DEFAULT 60,
            refilled_at timestamptz NOT NULL DEFAULT now(),
            active boolean NOT NULL DEFAULT true,
            created_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT pk_merchant PRIMARY KEY (id),
            CONSTRAINT uq_merchant_key UNIQUE (key),
            CONSTRAINT ck_merchant_key CHECK (key ~ '^[a-z][a-z0-9-]{1,31}$'),
            CONSTRAINT ck_merchant_provider CHECK (
                provider IN ('paygov', 'keypay', 'vnpay', 'momo', 'zalopay', 'viettel', 'vietqr')),
            CONSTRAINT ck_merchant_calls_per_minute CHECK (calls_per_minute > 0)
        )
    """)
    # Two keys of a purpose at the most: the newer signs, both are believed, until the older is retired.
    op.execute("""
        CREATE TABLE merchant_secret (
            id uuid NOT NULL DEFAULT gen_random_uuid(),
            merchant_id uuid NOT NULL,
            purpose text NOT NULL,
            slot smallint NOT NULL,
            secret_cipher bytea NOT NULL,
            created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            retired_at timestamptz,
            CONSTRAINT pk_merchant_secret PRIMARY KEY (id),
            CONSTRAINT fk_merchant_secret_merchant_id FOREIGN KEY (merchant_id) REFERENCES merchant (id),
            CONSTRAINT ck_merchant_secret_slot CHECK (slot IN (1, 2))
        )
    """)
    op.execute("""
        CREATE UNIQUE INDEX uq_merchant_secret_merchant_id ON merchant_secret (merchant_id, purpose, slot)
        WHERE retired_at IS NULL
    """)


def _attempts() -> None:
    op.execute(f"""
        CREATE TABLE payment_attempt (
            id uuid NOT NULL DEFAULT gen_random_uuid(),
            bill_id uuid NOT NULL,
            merchant_id uuid NOT NULL,
            reference text NOT NULL,
            amount bigint NOT NULL,
            status varchar(32) NOT NULL DEFAULT 'created',
            reached varchar(32) NOT NULL DEFAULT 'created',
            success smallint NOT NULL DEFAULT 0,
            failure smallint NOT NULL DEFAULT 0,
            version integer NOT NULL DEFAULT 1,
            created_at timestamptz NOT NULL,
            created_by text NOT NULL,
            expires_at timestamptz NOT NULL,
            next_check_at timestamptz,
            checks integer NOT NULL DEFAULT 0,
            settled_at timestamptz,
            redirect_url text,
            qr text,
            token text,
            failure_code text,
            CONSTRAINT pk_payment_attempt PRIMARY KEY (id),
            CONSTRAINT uq_payment_attempt_reference UNIQUE (reference),
            CONSTRAINT fk_payment_attempt_bill_id FOREIGN KEY (bill_id) REFERENCES bill (id),
            CONSTRAINT fk_payment_attempt_merchant_id FOREIGN KEY (merchant_id) REFERENCES merchant (id),
            CONSTRAINT ck_payment_attempt_amount CHECK (amount > 0),
            CONSTRAINT ck_payment_attempt_status CHECK (
                status IN ('created', 'unknown', 'pending', 'expired', 'failed', 'succeeded')),
            CONSTRAINT ck_payment_attempt_evidence CHECK (success BETWEEN 0 AND 4 AND failure BETWEEN 0 AND 4),
            -- bkapp.payments.rules.Standing
            CONSTRAINT ck_payment_attempt_standing CHECK (status = CASE
                WHEN success >= 2 AND success >= failure THEN 'succeeded'
                WHEN failure > 0 THEN 'failed'
                ELSE reached END),
            CONSTRAINT ck_payment_attempt_reached CHECK (reached IN ('created', 'unknown', 'pending', 'expired')),
            CONSTRAINT ck_payment_attempt_checked CHECK (status NOT IN {LIVE} OR next_check_at IS NOT NULL),
            CONSTRAINT ck_payment_attempt_settled CHECK ((settled_at IS NULL) = (status IN {LIVE}))
        )
    """)
    op.execute(f"CREATE UNIQUE INDEX uq_payment_attempt_live ON payment_attempt (bill_id) WHERE status IN {LIVE}")
    op.execute("CREATE INDEX ix_payment_attempt_bill_id_created_at ON payment_attempt (bill_id, created_at)")
    op.execute("""
        CREATE INDEX ix_payment_attempt_next_check_at ON payment_attempt (next_check_at) WHERE next_check_at IS NOT NULL
    """)
    op.execute("""
        CREATE TABLE attempt_edge (
            start text NOT NULL, event text NOT NULL, "end" text NOT NULL,
            CONSTRAINT pk_attempt_edge PRIMARY KEY (start, "end")
        )
    """)
    for start, event, end in EDGES:
        op.execute(f"INSERT INTO attempt_edge VALUES ('{start}', '{event}', '{end}')")
    op.execute("""
        CREATE FUNCTION payment_attempt_moves() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF NEW.success < OLD.success OR NEW.failure < OLD.failure THEN
                RAISE EXCEPTION 'evidence about attempt % does not shrink', OLD.id
                    USING ERRCODE = 'check_violation', CONSTRAINT = 'ck_payment_attempt_moves';
            END IF;
            IF (NEW.bill_id, NEW.merchant_id, NEW.reference, NEW.amount)
               IS DISTINCT FROM (OLD.bill_id, OLD.merchant_id, OLD.reference, OLD.amount) THEN
                RAISE EXCEPTION 'attempt % stays what it was for', OLD.id
                    USING ERRCODE = 'check_violation', CONSTRAINT = 'ck_payment_attempt_moves';
            END IF;
            IF NEW.status <> OLD.status THEN
                IF NOT EXISTS (SELECT FROM attempt_edge e WHERE e.start = OLD.status AND e."end" = NEW.status) THEN
                    RAISE EXCEPTION 'a % attempt cannot become %', OLD.status, NEW.status
                        USING ERRCODE = 'check_violation', CONSTRAINT = 'ck_payment_attempt_moves';
                END IF;
                IF NEW.version <> OLD.version + 1 THEN
                    RAISE EXCEPTION 'attempt % was moved by somebody else', OLD.id
                        USING ERRCODE = 'check_violation', CONSTRAINT = 'ck_payment_attempt_moves';
                END IF;
            END IF;
            RETURN NEW;
        END $$
    """)
    op.execute("""
        CREATE TRIGGER payment_attempt_moves BEFORE UPDATE ON payment_attempt
        FOR EACH ROW EXECUTE FUNCTION payment_attempt_moves()
    """)
    op.execute("""
        CREATE TABLE payment_event (
            id bigint GENERATED ALWAYS AS IDENTITY,
            attempt_id uuid NOT NULL,
            version integer NOT NULL,
            at timestamptz NOT NULL,
            event text NOT NULL,
            start text NOT NULL,
            "end" text NOT NULL,
            evidence smallint NOT NULL,
            source text NOT NULL,
            CONSTRAINT pk_payment_event PRIMARY KEY (id),
            CONSTRAINT uq_payment_event_attempt_id_version UNIQUE (attempt_id, version),
            CONSTRAINT fk_payment_event_attempt_id FOREIGN KEY (attempt_id) REFERENCES payment_attempt (id)
        )
    """)
    # A move without its event, or an event of another move, does not commit.
    op.execute("""
        CREATE FUNCTION payment_attempt_tells() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF NOT EXISTS (SELECT FROM payment_event e WHERE e.attempt_id = NEW.id AND e.version = NEW.version
                           AND e.start = OLD.status AND e."end" = NEW.status) THEN
                RAISE EXCEPTION 'the move of attempt % to % has no event', NEW.id, NEW.status
                    USING ERRCODE = 'check_violation', CONSTRAINT = 'ck_payment_attempt_tells';
            END IF;
            RETURN NULL;
        END $$
    """)
    op.execute("""
        CREATE CONSTRAINT TRIGGER payment_attempt_tells AFTER UPDATE ON payment_attempt
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.status <> OLD.status)
        EXECUTE FUNCTION payment_attempt_tells()
    """)


def _receipts() -> None:
    op.execute("""
        CREATE TABLE receipt (
            id uuid NOT NULL DEFAULT gen_random_uuid(),
            number bigint GENERATED ALWAYS AS IDENTITY,
            merchant_id uuid NOT NULL,
            transaction text NOT NULL,
            attempt_id uuid,
            bill_id uuid,
            amount bigint NOT NULL,
            place varchar(32) NOT NULL,
            refunded bigint NOT NULL DEFAULT 0,
            reserved bigint NOT NULL DEFAULT 0,
            evidence smallint NOT NULL,
            received_at timestamptz NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT pk_receipt PRIMARY KEY (id),
            CONSTRAINT uq_receipt_number UNIQUE (number),
            CONSTRAINT uq_receipt_merchant_id_transaction UNIQUE (merchant_id, transaction),
            CONSTRAINT fk_receipt_merchant_id FOREIGN KEY (merchant_id) REFERENCES merchant (id),
            CONSTRAINT fk_receipt_attempt_id FOREIGN KEY (attempt_id) REFERENCES payment_attempt (id),
            CONSTRAINT fk_receipt_bill_id FOREIGN KEY (bill_id) REFERENCES bill (id),
            CONSTRAINT ck_receipt_place CHECK (place IN ('applied', 'suspense', 'reversed')),
            CONSTRAINT ck_receipt_amount CHECK (amount > 0),
            CONSTRAINT ck_receipt_refunds CHECK (refunded >= 0 AND reserved >= 0 AND refunded + reserved <= amount),
            CONSTRAINT ck_receipt_reversed CHECK (place <> 'reversed' OR refunded + reserved = 0),
            CONSTRAINT ck_receipt_applied CHECK (place <> 'applied' OR bill_id IS NOT NULL)
        )
    """)
    op.execute("CREATE UNIQUE INDEX uq_receipt_applied ON receipt (bill_id) WHERE place = 'applied'")
    op.execute("CREATE INDEX ix_receipt_bill_id ON receipt (bill_id)")
    op.execute("CREATE INDEX ix_receipt_attempt_id ON receipt (attempt_id)")
    op.execute("CREATE INDEX ix_receipt_merchant_id_received_at ON receipt (merchant_id, received_at)")
    op.execute("CREATE INDEX ix_receipt_suspense ON receipt (created_at) WHERE place = 'suspense'")


def _refunds() -> None:
    op.execute("""
        CREATE TABLE refund (
            id uuid NOT NULL DEFAULT gen_random_uuid(),
            receipt_id uuid NOT NULL,
            reference text NOT NULL,
            amount bigint NOT NULL,
            reason text NOT NULL,
            by_hand boolean NOT NULL,
            status varchar(32) NOT NULL,
            requested_by text NOT NULL,
            requested_at timestamptz NOT NULL,
            approved_by text,
            approved_at timestamptz,
            sent_at timestamptz,
            next_check_at timestamptz,
            checks integer NOT NULL DEFAULT 0,
            settled_at timestamptz,
            transaction text,
            failure_code text,
            version integer NOT NULL DEFAULT 1,
            CONSTRAINT pk_refund PRIMARY KEY (id),
            CONSTRAINT uq_refund_reference UNIQUE (reference),
            CONSTRAINT fk_refund_receipt_id FOREIGN KEY (receipt_id) REFERENCES receipt (id),
            CONSTRAINT ck_refund_amount CHECK (amount > 0),
            CONSTRAINT ck_refund_status CHECK (
                status IN ('waiting', 'approved', 'unknown', 'pending', 'succeeded', 'failed', 'rejected')),
            CONSTRAINT ck_refund_four_eyes CHECK (approved_by <> requested_by OR approved_by = 'payments.small'),
            CONSTRAINT ck_refund_approved CHECK ((approved_by IS NULL) = (approved_at IS NULL)),
            CONSTRAINT ck_refund_sent CHECK (
                status NOT IN ('approved', 'unknown', 'pending', 'succeeded') OR approved_at IS NOT NULL),
            CONSTRAINT ck_refund_checked CHECK (
                status NOT IN ('approved', 'unknown', 'pending') OR by_hand OR next_check_at IS NOT NULL),
            CONSTRAINT ck_refund_settled CHECK (
                (settled_at IS NULL) = (status IN ('waiting', 'approved', 'unknown', 'pending')))
        )
    """)
    op.execute("CREATE INDEX ix_refund_receipt_id ON refund (receipt_id)")
    # A transfer of the treasury is recorded for one refund.
    op.execute("CREATE UNIQUE INDEX uq_refund_transaction ON refund (transaction) WHERE by_hand")
    op.execute("CREATE INDEX ix_refund_next_check_at ON refund (next_check_at) WHERE next_check_at IS NOT NULL")
    op.execute("CREATE INDEX ix_refund_status_requested_at ON refund (status, requested_at)")
    op.execute("""
        CREATE TABLE refund_edge (start text NOT NULL, "end" text NOT NULL,
            CONSTRAINT pk_refund_edge PRIMARY KEY (start, "end"))
    """)
    for start, end in REFUND_EDGES:
        op.execute(f"INSERT INTO refund_edge VALUES ('{start}', '{end}')")
    op.execute("""
        CREATE TABLE refund_event (
            id bigint GENERATED ALWAYS AS IDENTITY,
            refund_id uuid NOT NULL,
            version integer NOT NULL,
            at timestamptz NOT NULL,
            start text NOT NULL,
            "end" text NOT NULL,
            source text NOT NULL,
            CONSTRAINT pk_refund_event PRIMARY KEY (id),
            CONSTRAINT uq_refund_event_refund_id_version UNIQUE (refund_id, version),
            CONSTRAINT fk_refund_event_refund_id FOREIGN KEY (refund_id) REFERENCES refund (id)
        )
    """)
    op.execute("""
        CREATE FUNCTION refund_moves() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF (NEW.receipt_id, NEW.amount, NEW.reference) IS DISTINCT FROM
               (OLD.receipt_id, OLD.amount, OLD.reference) THEN
                RAISE EXCEPTION 'refund % stays what it was for', OLD.id
                    USING ERRCODE = 'check_violation', CONSTRAINT = 'ck_refund_moves';
            END IF;
            IF NEW.status <> OLD.status AND (NEW.version <> OLD.version + 1 OR NOT EXISTS (
                SELECT FROM refund_edge e WHERE e.start = OLD.status AND e."end" = NEW.status)) THEN
                RAISE EXCEPTION 'a % refund cannot become %', OLD.status, NEW.status
                    USING ERRCODE = 'check_violation', CONSTRAINT = 'ck_refund_moves';
            END IF;
            RETURN NEW;
        END $$
    """)
    op.execute("""
        CREATE TRIGGER refund_moves BEFORE UPDATE ON refund FOR EACH ROW EXECUTE FUNCTION refund_moves()
    """)
    op.execute("""
        CREATE FUNCTION refund_tells() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF NOT EXISTS (SELECT FROM refund_event e WHERE e.refund_id = NEW.id AND e.version = NEW.version
                           AND e.start = OLD.status AND e."end" = NEW.status) THEN
                RAISE EXCEPTION 'the move of refund % to % has no event', NEW.id, NEW.status
                    USING ERRCODE = 'check_violation', CONSTRAINT = 'ck_refund_tells';
            END IF;
            RETURN NULL;
        END $$
    """)
    op.execute("""
        CREATE CONSTRAINT TRIGGER refund_tells AFTER UPDATE ON refund
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.status <> OLD.status)
        EXECUTE FUNCTION refund_tells()
    """)
    # What is reserved and refunded on a receipt is what its refunds come to, whenever a transaction ends.
    op.execute("""
        CREATE FUNCTION receipt_refunds_add_up() RETURNS trigger LANGUAGE plpgsql AS $$
        DECLARE one uuid := coalesce(to_jsonb(NEW) ->> 'receipt_id', to_jsonb(NEW) ->> 'id')::uuid;
        BEGIN
            IF (SELECT (reserved, refunded) FROM receipt WHERE id = one) IS DISTINCT FROM
               (SELECT (coalesce(sum(amount) FILTER (
                            WHERE status IN ('waiting', 'approved', 'unknown', 'pending')), 0)::bigint,
                        coalesce(sum(amount) FILTER (WHERE status = 'succeeded'), 0)::bigint)
                FROM refund WHERE receipt_id = one) THEN
                RAISE EXCEPTION 'the refunds of receipt % do not add up', one
                    USING ERRCODE = 'check_violation', CONSTRAINT = 'ck_receipt_refunds_add_up';
            END IF;
            RETURN NULL;
        END $$
    """)
    op.execute("""
        CREATE CONSTRAINT TRIGGER refund_adds_up AFTER INSERT OR UPDATE OF status ON refund
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION receipt_refunds_add_up()
    """)
    op.execute("""
        CREATE CONSTRAINT TRIGGER receipt_refunds_add_up AFTER UPDATE OF reserved, refunded ON receipt
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION receipt_refunds_add_up()
    """)


def _cases() -> None:
    op.execute("""
        CREATE TABLE payment_case (
            id uuid NOT NULL DEFAULT gen_random_uuid(),
            kind varchar(32) NOT NULL,
            merchant_id uuid,
            bill_id uuid,
            attempt_id uuid,
            receipt_id uuid,
            refund_id uuid,
            statement_line_id bigint,
            detail text NOT NULL DEFAULT '',
            opened_at timestamptz NOT NULL DEFAULT now(),
            due_at timestamptz NOT NULL,
            closed_at timestamptz,
            closed_by text,
            outcome text,
            CONSTRAINT pk_payment_case PRIMARY KEY (id),
            CONSTRAINT fk_payment_case_merchant_id FOREIGN KEY (merchant_id) REFERENCES merchant (id),
            CONSTRAINT fk_payment_case_bill_id FOREIGN KEY (bill_id) REFERENCES bill (id),
            CONSTRAINT fk_payment_case_attempt_id FOREIGN KEY (attempt_id) REFERENCES payment_attempt (id),
            CONSTRAINT fk_payment_case_receipt_id FOREIGN KEY (receipt_id) REFERENCES receipt (id),
            CONSTRAINT fk_payment_case_refund_id FOREIGN KEY (refund_id) REFERENCES refund (id),
            CONSTRAINT ck_payment_case_kind CHECK (kind IN ('duplicate', 'amount', 'closed_bill', 'unidentified',
                'conflict', 'overrefund', 'refund_failed', 'missing', 'status')),
            CONSTRAINT ck_payment_case_closed CHECK (
                (closed_at IS NULL) = (closed_by IS NULL) AND (closed_at IS NULL) = (outcome IS NULL))
        )
    """)
    op.execute("""
        CREATE UNIQUE INDEX uq_payment_case_receipt_id ON payment_case (receipt_id)
        WHERE closed_at IS NULL AND kind IN ('duplicate', 'amount', 'closed_bill', 'unidentified')
    """)
    op.execute("CREATE INDEX ix_payment_case_due_at ON payment_case (due_at) WHERE closed_at IS NULL")
    op.execute("CREATE INDEX ix_payment_case_bill_id ON payment_case (bill_id)")
    op.execute("CREATE INDEX ix_payment_case_receipt_id ON payment_case (receipt_id)")


def _ledger() -> None:
    op.execute("""
        CREATE TABLE ledger_head (
            single boolean NOT NULL DEFAULT true,
            seq bigint NOT NULL,
            hash bytea NOT NULL,
            CONSTRAINT pk_ledger_head PRIMARY KEY (single),
            CONSTRAINT ck_ledger_head_single CHECK (single)
        )
    """)
    op.execute("INSERT INTO ledger_head (seq, hash) VALUES (0, sha256('bkapp ledger'))")
    # ``entries`` is what was hashed: [["account", amount], …], debits above zero and credits below.  The rows of
    # ledger_entry are made of it by the trigger, and by nobody else.
    op.execute("""
        CREATE TABLE ledger_transaction (
            seq bigint NOT NULL,
            at timestamptz NOT NULL,
            kind text NOT NULL,
            receipt_id uuid,
            refund_id uuid,
            subject text NOT NULL,
            reverses bigint,
            entries text NOT NULL,
            previous bytea NOT NULL,
            hash bytea NOT NULL,
            CONSTRAINT pk_ledger_transaction PRIMARY KEY (seq),
            CONSTRAINT uq_ledger_transaction_reverses UNIQUE (reverses),
            CONSTRAINT fk_ledger_transaction_reverses FOREIGN KEY (reverses) REFERENCES ledger_transaction (seq),
            CONSTRAINT ck_ledger_transaction_kind CHECK (
                kind IN ('receipt', 'apply', 'refund', 'settlement', 'reversal')),
            CONSTRAINT ck_ledger_transaction_reversal CHECK ((kind = 'reversal') = (reverses IS NOT NULL))
        )
    """)
    op.execute("CREATE INDEX ix_ledger_transaction_receipt_id ON ledger_transaction (receipt_id)")
    # What arrived at the bank is settled once.
    op.execute("""
        CREATE UNIQUE INDEX uq_ledger_transaction_settlement ON ledger_transaction (subject) WHERE kind = 'settlement'
    """)
    op.execute("""
        CREATE TABLE ledger_entry (
            transaction_seq bigint NOT NULL,
            position smallint NOT NULL,
            account text NOT NULL,
            amount bigint NOT NULL,
            CONSTRAINT pk_ledger_entry PRIMARY KEY (transaction_seq, position),
            CONSTRAINT fk_ledger_entry_transaction_seq FOREIGN KEY (transaction_seq)
                REFERENCES ledger_transaction (seq),
            CONSTRAINT ck_ledger_entry_amount CHECK (amount <> 0)
        )
    """)
    op.execute("CREATE INDEX ix_ledger_entry_account ON ledger_entry (account) INCLUDE (amount)")
    # SECURITY DEFINER: the role of the app may add transactions, and touches neither the head nor the entries itself.
    op.execute("""
        CREATE FUNCTION ledger_append() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
        SET search_path = public, pg_temp AS $$
        BEGIN
            SELECT h.seq + 1, h.hash INTO STRICT NEW.seq, NEW.previous FROM ledger_head h FOR UPDATE;
            NEW.at := clock_timestamp();
            NEW.hash := audit_digest(NEW.previous, NEW.seq, NEW.at, NEW.kind, coalesce(NEW.receipt_id::text, ''),
                coalesce(NEW.refund_id::text, ''), NEW.subject, coalesce(NEW.reverses::text, ''), NEW.entries);
            UPDATE ledger_head SET seq = NEW.seq, hash = NEW.hash;
            RETURN NEW;
        END $$
    """)
    op.execute("""
        CREATE TRIGGER ledger_transaction_append BEFORE INSERT ON ledger_transaction
        FOR EACH ROW EXECUTE FUNCTION ledger_append()
    """)
    op.execute("""
        CREATE FUNCTION ledger_spread() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
        SET search_path = public, pg_temp AS $$
        BEGIN
            INSERT INTO ledger_entry (transaction_seq, position, account, amount)
            SELECT NEW.seq, e.place, e.entry ->> 0, (e.entry ->> 1)::bigint
            FROM jsonb_array_elements(NEW.entries::jsonb) WITH ORDINALITY AS e(entry, place);
            RETURN NULL;
        END $$
    """)
    op.execute("""
        CREATE TRIGGER ledger_transaction_spread AFTER INSERT ON ledger_transaction
        FOR EACH ROW EXECUTE FUNCTION ledger_spread()
    """)
    op.execute("""
        CREATE FUNCTION ledger_balances() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
        SET search_path = public, pg_temp AS $$
        DECLARE one bigint := coalesce(to_jsonb(NEW) ->> 'transaction_seq', to_jsonb(NEW) ->> 'seq')::bigint;
        BEGIN
            IF (SELECT count(*) < 2 OR sum(amount) <> 0 FROM ledger_entry WHERE transaction_seq = one) THEN
                RAISE EXCEPTION 'ledger transaction % does not balance', one
                    USING ERRCODE = 'check_violation', CONSTRAINT = 'ck_ledger_transaction_balances';
            END IF;
            RETURN NULL;
        END $$
    """)
    for table in ("ledger_transaction", "ledger_entry"):
        op.execute(f"""
            CREATE CONSTRAINT TRIGGER {table}_balances AFTER INSERT ON {table}
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION ledger_balances()
        """)
    # What the triggers of a transaction do goes on; what anybody else does is refused.
    op.execute("""
        CREATE TRIGGER ledger_head_keep BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON ledger_head
        FOR EACH STATEMENT WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION audit_keep()
    """)
    op.execute("""
        CREATE TRIGGER ledger_entry_spread_only BEFORE INSERT ON ledger_entry
        FOR EACH STATEMENT WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION audit_keep()
    """)


def _webhooks_in() -> None:
    op.execute("""
        CREATE TABLE webhook_inbox (
            id bigint GENERATED BY DEFAULT AS IDENTITY,
            merchant_id uuid NOT NULL,
            received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            what text NOT NULL,
            remote_ip text NOT NULL,
            headers text NOT NULL,
            body_cipher bytea,
            body_bytes integer NOT NULL,
            outcome text NOT NULL DEFAULT 'received',
            reason text,
            event_id text,
            attempt_id uuid,
            answered_at timestamptz,
            CONSTRAINT pk_webhook_inbox PRIMARY KEY (id),
            CONSTRAINT fk_webhook_inbox_merchant_id FOREIGN KEY (merchant_id) REFERENCES merchant (id),
            CONSTRAINT fk_webhook_inbox_attempt_id FOREIGN KEY (attempt_id) REFERENCES payment_attempt (id),
            CONSTRAINT ck_webhook_inbox_outcome CHECK (
                outcome IN ('received', 'applied', 'duplicate', 'noted', 'refused', 'broken'))
        )
    """)
    # Only the first verified message of an event carries its id.
    op.execute("""
        CREATE UNIQUE INDEX uq_webhook_inbox_event ON webhook_inbox (merchant_id, event_id) WHERE event_id IS NOT NULL
    """)
    op.execute("CREATE INDEX ix_webhook_inbox_outcome_id ON webhook_inbox (outcome, id)")
    op.execute("CREATE INDEX ix_webhook_inbox_attempt_id ON webhook_inbox (attempt_id)")


def _webhooks_out() -> None:
    op.execute("""
        CREATE TABLE webhook_endpoint (
            id uuid NOT NULL DEFAULT gen_random_uuid(),
            label text NOT NULL,
            url text NOT NULL,
            kinds text[] NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            created_by text NOT NULL,
            active boolean NOT NULL DEFAULT true,
            failures integer NOT NULL DEFAULT 0,
            failing_since timestamptz,
            last_success_at timestamptz,
            disabled_at timestamptz,
            disabled_reason text,
            CONSTRAINT pk_webhook_endpoint PRIMARY KEY (id),
            CONSTRAINT uq_webhook_endpoint_url UNIQUE (url),
            CONSTRAINT ck_webhook_endpoint_disabled CHECK (active = (disabled_at IS NULL))
        )
    """)
    op.execute("""
        CREATE TABLE webhook_key (
            id uuid NOT NULL DEFAULT gen_random_uuid(),
            endpoint_id uuid NOT NULL,
            scheme text NOT NULL,
            slot smallint NOT NULL,
            secret_cipher bytea NOT NULL,
            created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            retired_at timestamptz,
            CONSTRAINT pk_webhook_key PRIMARY KEY (id),
            CONSTRAINT fk_webhook_key_endpoint_id FOREIGN KEY (endpoint_id) REFERENCES webhook_endpoint (id),
            CONSTRAINT ck_webhook_key_scheme CHECK (scheme IN ('v1', 'v1a')),
            CONSTRAINT ck_webhook_key_slot CHECK (slot IN (1, 2))
        )
    """)
    op.execute("""
        CREATE UNIQUE INDEX uq_webhook_key_endpoint_id ON webhook_key (endpoint_id, scheme, slot)
        WHERE retired_at IS NULL
    """)
    op.execute("""
        CREATE TABLE webhook_message (
            seq bigint GENERATED ALWAYS AS IDENTITY,
            id text NOT NULL,
            endpoint_id uuid NOT NULL,
            bill_id uuid NOT NULL,
            kind text NOT NULL,
            body text NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            status text NOT NULL DEFAULT 'waiting',
            tries integer NOT NULL DEFAULT 0,
            next_try_at timestamptz,
            give_up_at timestamptz NOT NULL,
            delivered_at timestamptz,
            CONSTRAINT pk_webhook_message PRIMARY KEY (seq),
            CONSTRAINT uq_webhook_message_id_endpoint_id UNIQUE (id, endpoint_id),
            CONSTRAINT fk_webhook_message_endpoint_id FOREIGN KEY (endpoint_id) REFERENCES webhook_endpoint (id),
            CONSTRAINT fk_webhook_message_bill_id FOREIGN KEY (bill_id) REFERENCES bill (id),
            CONSTRAINT ck_webhook_message_status CHECK (status IN ('waiting', 'delivered', 'given_up')),
            CONSTRAINT ck_webhook_message_next CHECK ((next_try_at IS NULL) = (status <> 'waiting')),
            CONSTRAINT ck_webhook_message_delivered CHECK ((delivered_at IS NULL) = (status <> 'delivered'))
        )
    """)
    op.execute("""
        CREATE INDEX ix_webhook_message_waiting ON webhook_message (endpoint_id, bill_id, seq) WHERE status = 'waiting'
    """)
    op.execute("CREATE INDEX ix_webhook_message_endpoint_id_seq ON webhook_message (endpoint_id, seq)")
    op.execute("CREATE INDEX ix_webhook_message_next_try_at ON webhook_message (next_try_at) WHERE status = 'waiting'")
    op.execute("""
        CREATE TABLE webhook_delivery (
            id bigint GENERATED ALWAYS AS IDENTITY,
            message_seq bigint NOT NULL,
            at timestamptz NOT NULL,
            status integer,
            error text,
            milliseconds integer NOT NULL,
            asked_by text,
            CONSTRAINT pk_webhook_delivery PRIMARY KEY (id),
            CONSTRAINT fk_webhook_delivery_message_seq FOREIGN KEY (message_seq) REFERENCES webhook_message (seq)
        )
    """)
    op.execute("CREATE INDEX ix_webhook_delivery_message_seq ON webhook_delivery (message_seq)")


def _statements() -> None:
    op.execute("""
        CREATE TABLE statement_file (
            id uuid NOT NULL DEFAULT gen_random_uuid(),
            merchant_id uuid NOT NULL,
            source text NOT NULL,
            format text NOT NULL,
            business_date date NOT NULL,
            sha256 bytea NOT NULL,
            name text NOT NULL,
            line_count integer NOT NULL,
            total bigint NOT NULL,
            imported_at timestamptz NOT NULL DEFAULT now(),
            imported_by text NOT NULL,
            CONSTRAINT pk_statement_file PRIMARY KEY (id),
            CONSTRAINT uq_statement_file_sha256 UNIQUE (merchant_id, source, business_date, sha256),
            CONSTRAINT fk_statement_file_merchant_id FOREIGN KEY (merchant_id) REFERENCES merchant (id),
            CONSTRAINT ck_statement_file_source CHECK (source IN ('provider', 'bank'))
        )
    """)
    op.execute("""
        CREATE TABLE statement_line (
            id bigint GENERATED ALWAYS AS IDENTITY,
            file_id uuid NOT NULL,
            position integer NOT NULL,
            kind text NOT NULL,
            reference text NOT NULL,
            transaction text NOT NULL,
            amount bigint NOT NULL,
            status text NOT NULL,
            at timestamptz NOT NULL,
            CONSTRAINT pk_statement_line PRIMARY KEY (id),
            CONSTRAINT uq_statement_line_file_id_position UNIQUE (file_id, position),
            CONSTRAINT fk_statement_line_file_id FOREIGN KEY (file_id) REFERENCES statement_file (id),
            CONSTRAINT ck_statement_line_kind CHECK (kind IN ('payment', 'refund')),
            CONSTRAINT ck_statement_line_status CHECK (status IN ('succeeded', 'failed', 'pending')),
            CONSTRAINT ck_statement_line_amount CHECK (amount > 0)
        )
    """)
    op.execute("CREATE INDEX ix_statement_line_transaction ON statement_line (transaction)")
    op.execute("CREATE INDEX ix_statement_line_reference ON statement_line (reference)")
    # What comparing found: one row for each line of a file, and one for each of ours that no line speaks of.
    op.execute("""
        CREATE TABLE reconciliation_item (
            id bigint GENERATED ALWAYS AS IDENTITY,
            merchant_id uuid NOT NULL,
            source text NOT NULL,
            business_date date NOT NULL,
            kind text NOT NULL,
            statement_line_id bigint,
            receipt_id uuid,
            refund_id uuid,
            our_amount bigint,
            their_amount bigint,
            first_seen_at timestamptz NOT NULL DEFAULT now(),
            resolved_at timestamptz,
            resolved_by text,
            note text,
            CONSTRAINT pk_reconciliation_item PRIMARY KEY (id),
            CONSTRAINT fk_reconciliation_item_merchant_id FOREIGN KEY (merchant_id) REFERENCES merchant (id),
            CONSTRAINT fk_reconciliation_item_statement_line_id FOREIGN KEY (statement_line_id)
                REFERENCES statement_line (id),
            CONSTRAINT fk_reconciliation_item_receipt_id FOREIGN KEY (receipt_id) REFERENCES receipt (id),
            CONSTRAINT fk_reconciliation_item_refund_id FOREIGN KEY (refund_id) REFERENCES refund (id),
            CONSTRAINT ck_reconciliation_item_source CHECK (source IN ('provider', 'bank')),
            CONSTRAINT ck_reconciliation_item_kind CHECK (kind IN ('matched', 'only_ours', 'only_theirs', 'amount',
                'status', 'duplicate', 'refund')),
            CONSTRAINT ck_reconciliation_item_resolved CHECK ((resolved_at IS NULL) = (resolved_by IS NULL)),
            CONSTRAINT ck_reconciliation_item_about CHECK (
                statement_line_id IS NOT NULL OR receipt_id IS NOT NULL OR refund_id IS NOT NULL)
        )
    """)
    op.execute("""
        CREATE UNIQUE INDEX uq_reconciliation_item_line ON reconciliation_item (statement_line_id)
        WHERE statement_line_id IS NOT NULL
    """)
    op.execute("""
        CREATE UNIQUE INDEX uq_reconciliation_item_receipt ON reconciliation_item (source, receipt_id)
        WHERE statement_line_id IS NULL AND receipt_id IS NOT NULL AND resolved_at IS NULL
    """)
    op.execute("""
        CREATE UNIQUE INDEX uq_reconciliation_item_refund ON reconciliation_item (source, refund_id)
        WHERE statement_line_id IS NULL AND refund_id IS NOT NULL AND resolved_at IS NULL
    """)
    for column in ("receipt_id", "refund_id"):
        op.execute(f"CREATE INDEX ix_reconciliation_item_{column} ON reconciliation_item ({column})")
    op.execute("""
        CREATE INDEX ix_reconciliation_item_open ON reconciliation_item (merchant_id, business_date)
        WHERE kind <> 'matched' AND resolved_at IS NULL
    """)
