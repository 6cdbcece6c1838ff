-- What is known of minutes that are not there, one row a half-open range inside a UTC day.
-- state: missing (to be fetched), filled, exchange_absent (asked for; the exchange has none).

CREATE TABLE IF NOT EXISTS gap_ledger
(
    market_id UInt16,
    symbol LowCardinality(String),
    gap_start DateTime64(3, 'UTC'),
    gap_end DateTime64(3, 'UTC'),
    state LowCardinality(String),
    attempts UInt32 DEFAULT 0,
    last_error Nullable(String),
    updated_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree(updated_at)
ORDER BY (market_id, symbol, gap_start, gap_end);
