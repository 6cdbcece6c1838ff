-- The candles, of every exchange alike; filled by the views of 0004 and by nobody else.
-- Of the rows of one (market_id, symbol, ts_open) the newest ingested_at counts, of equal ones
-- the last inserted; the month is a function of that key, so all its rows are in one partition.

CREATE TABLE IF NOT EXISTS canonical_candles_1m
(
    market_id UInt16,
    symbol LowCardinality(String),
    instrument_key String,
    ts_open DateTime64(3, 'UTC') CODEC(Delta, LZ4),
    ts_close DateTime64(3, 'UTC') CODEC(Delta, LZ4),
    open Float64,
    high Float64,
    low Float64,
    close Float64,
    volume_base Float64,
    volume_quote Nullable(Float64),
    trades_count Nullable(UInt32),
    taker_buy_volume_base Nullable(Float64),
    taker_buy_volume_quote Nullable(Float64),
    source LowCardinality(String),
    ingested_at DateTime64(3, 'UTC') CODEC(Delta, LZ4),
    ingest_id Nullable(UUID)
)
ENGINE = ReplacingMergeTree(ingested_at)
PARTITION BY toYYYYMM(ts_open)
ORDER BY (market_id, symbol, ts_open)
SETTINGS index_granularity = 8192;
