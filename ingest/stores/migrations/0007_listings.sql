-- The first candle an exchange has of an instrument, as it told it when it was asked; NULL is an
-- instrument of which it has none.

CREATE TABLE IF NOT EXISTS listings
(
    market_id UInt16,
    symbol LowCardinality(String),
    first_candle Nullable(DateTime64(3, 'UTC')),
    updated_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree(updated_at)
ORDER BY (market_id, symbol);
