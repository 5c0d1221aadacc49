-- Readings as they arrive from the buoys. A reading is never changed: a correction is a new row with a higher revision.
CREATE TABLE readings (
    buoy_serial   text        NOT NULL,            -- such as 22-0391
    measured_at   timestamptz NOT NULL,
    quantity      text        NOT NULL CHECK (quantity IN ('turbidity', 'oxygen', 'temperature', 'ph')),
    value         numeric     NOT NULL,
    revision      integer     NOT NULL DEFAULT 1,
    quality_flag  char(1)     NOT NULL DEFAULT 'g', -- g good, s suspect, b bad
    PRIMARY KEY (buoy_serial, measured_at, quantity, revision)
);

COMMENT ON COLUMN readings.quality_flag IS 'Set by the nightly plausibility check; a person may overrule it.';
