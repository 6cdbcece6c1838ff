-- Quality reports as they were made; the newest of an instrument is its state. `report` is the
-- whole report as JSON, the columns are what one sorts and filters by.

CREATE TABLE IF NOT EXISTS quality_reports
(
    market_id UInt16,
    symbol LowCardinality(String),
    period_start DateTime64(3, 'UTC'),
    period_end DateTime64(3, 'UTC'),
    expected_minutes UInt64,
    present_minutes UInt64,
    missing_minutes UInt64,
    gaps UInt64,
    duplicates UInt64,
    zero_volume_runs UInt64,
    outliers UInt64,
    fingerprint String,
    report String CODEC(ZSTD(3)),
    created_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = MergeTree
ORDER BY (market_id, symbol, created_at);
