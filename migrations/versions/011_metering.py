"""What work costs: billing records, metrics and budgets.

Revision ID: 011_metering
"""

from alembic import op

from migrations.owner_policy import protect

revision = "011_metering"
down_revision = "010_scheduling"
branch_labels = None
depends_on = None

# No foreign keys to sources, documents and jobs: what was spent stays spent when these are gone.
TABLES = """
CREATE TABLE app.billing_records (
    hour timestamptz NOT NULL CHECK (hour = date_trunc('hour', hour, 'UTC')),
    data_source_id uuid,
    document_id uuid,
    job_id uuid,
    quantity bigint NOT NULL CHECK (quantity >= 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    user_id text NOT NULL CHECK (user_id <> ''),
    step text NOT NULL,
    provider text NOT NULL,
    model text NOT NULL,
    unit text NOT NULL,
    currency text NOT NULL DEFAULT 'USD' CHECK (currency = 'USD'),
    unit_price numeric CHECK (unit_price >= 0),
    is_priced boolean NOT NULL GENERATED ALWAYS AS (unit_price IS NOT NULL) STORED,
    cost numeric NOT NULL GENERATED ALWAYS AS (coalesce(quantity * unit_price, 0)) STORED,
    CONSTRAINT billing_records_same_key UNIQUE NULLS NOT DISTINCT
        (user_id, hour, document_id, job_id, data_source_id, step, provider, model, unit, unit_price)
);
CREATE INDEX billing_records_job ON app.billing_records (user_id, job_id) WHERE job_id IS NOT NULL;

CREATE TABLE app.observability_metrics (
    hour timestamptz NOT NULL CHECK (hour = date_trunc('hour', hour, 'UTC')),
    data_source_id uuid,
    count bigint NOT NULL CHECK (count >= 0),
    sum double precision NOT NULL,
    max double precision NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    user_id text NOT NULL CHECK (user_id <> ''),
    step text NOT NULL,
    name text NOT NULL,
    CONSTRAINT observability_metrics_same_key UNIQUE NULLS NOT DISTINCT (user_id, hour, data_source_id, step, name)
);

CREATE TABLE app.budgets (
    id uuid PRIMARY KEY,
    user_id text NOT NULL CHECK (user_id <> ''),
    data_source_id uuid,
    period text NOT NULL CHECK (period IN ('run', 'day', 'month')),
    unit text NOT NULL CHECK (unit IN ('usd', 'tokens')),
    amount numeric NOT NULL CHECK (amount >= 0 AND amount < 1e15),
    is_active boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT budgets_owner_key UNIQUE (user_id, id),
    CONSTRAINT budgets_same_key UNIQUE NULLS NOT DISTINCT (user_id, data_source_id, period, unit),
    CONSTRAINT budgets_data_source_fk FOREIGN KEY (user_id, data_source_id)
        REFERENCES app.data_sources (user_id, id) ON DELETE CASCADE
);
"""

# Six decimals would round each batch of some hundred tokens at two millionths of a cent. The view stands in the way.
EXACT_JOB_COST = """
DO $$
DECLARE
    definition CONSTANT text := pg_get_viewdef('app.sync_job_summary');
BEGIN
    DROP VIEW app.sync_job_summary;
    ALTER TABLE app.sync_jobs ALTER COLUMN cost TYPE numeric;
    EXECUTE 'CREATE VIEW app.sync_job_summary WITH (security_invoker = true, security_barrier = true) AS ' || definition;
    GRANT SELECT ON app.sync_job_summary TO wp_app;
END $$;
"""

VIEW = """
CREATE VIEW app.daily_cost_summary WITH (security_invoker = true, security_barrier = true) AS
SELECT b.user_id, (b.hour AT TIME ZONE 'UTC')::date AS day, b.data_source_id, s.name AS data_source_name, b.step,
       b.provider, b.model, b.unit, sum(b.quantity)::bigint AS quantity, sum(b.cost) AS cost, b.currency,
       coalesce(sum(b.quantity) FILTER (WHERE NOT b.is_priced), 0)::bigint AS unpriced_quantity
  FROM app.billing_records b
  LEFT JOIN app.data_sources s ON s.user_id = b.user_id AND s.id = b.data_source_id
 GROUP BY b.user_id, day, b.data_source_id, s.name, b.step, b.provider, b.model, b.unit, b.currency;

GRANT SELECT ON app.daily_cost_summary TO wp_app;
"""


def upgrade() -> None:
    op.execute("SET ROLE wp_owner")
    op.execute("SET search_path = app, public")
    op.execute(TABLES)
    for table in ("billing_records", "observability_metrics", "budgets"):
        op.execute(protect(table))
    op.execute(EXACT_JOB_COST)
    op.execute(VIEW)
    op.execute("RESET ROLE")
