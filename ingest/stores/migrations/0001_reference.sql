-- Markets and instruments. The newest version of a key, by updated_at, is the one that counts:
-- take it first and filter then, for filtering first would bring superseded rows back.

CREATE TABLE IF NOT EXISTS ref_market
(
    market_id UInt16,
    exchange_name LowCardinality(String),
    market_type LowCardinality(String),
    market_code LowCardinality(String),
    is_enabled UInt8 DEFAULT 1,
    count_symbols UInt32 DEFAULT 0,
    updated_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree(updated_at)
ORDER BY (market_id);

CREATE TABLE IF NOT EXISTS ref_instruments
(
    market_id UInt16,
    symbol LowCardinality(String),
    status LowCardinality(String) DEFAULT 'UNKNOWN',
    is_tradable UInt8 DEFAULT 1,
    base_asset LowCardinality(Nullable(String)),
    quote_asset LowCardinality(Nullable(String)),
    price_step Nullable(Float64),
    qty_step Nullable(Float64),
    min_notional Nullable(Float64),
    updated_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree(updated_at)
ORDER BY (market_id, symbol);
