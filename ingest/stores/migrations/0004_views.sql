-- Insert triggers: every raw row becomes a candle in the same insert.

CREATE MATERIALIZED VIEW IF NOT EXISTS mv_raw_binance_to_canonical_1m TO canonical_candles_1m AS
SELECT
    market_id,
    symbol,
    instrument_key,
    open_time AS ts_open,
    close_time AS ts_close,
    open,
    high,
    low,
    close,
    volume AS volume_base,
    toNullable(quote_asset_volume) AS volume_quote,
    toNullable(number_of_trades) AS trades_count,
    toNullable(taker_buy_base_asset_volume) AS taker_buy_volume_base,
    toNullable(taker_buy_quote_asset_volume) AS taker_buy_volume_quote,
    source,
    ingested_at,
    ingest_id
FROM raw_binance_klines_1m;

CREATE MATERIALIZED VIEW IF NOT EXISTS mv_raw_bybit_to_canonical_1m TO canonical_candles_1m AS
SELECT
    market_id,
    symbol,
    instrument_key,
    start_time_utc AS ts_open,
    start_time_utc + INTERVAL 1 MINUTE AS ts_close,
    open,
    high,
    low,
    close,
    volume AS volume_base,
    toNullable(turnover) AS volume_quote,
    CAST(NULL AS Nullable(UInt32)) AS trades_count,
    CAST(NULL AS Nullable(Float64)) AS taker_buy_volume_base,
    CAST(NULL AS Nullable(Float64)) AS taker_buy_volume_quote,
    source,
    ingested_at,
    ingest_id
FROM raw_bybit_klines_1m;
