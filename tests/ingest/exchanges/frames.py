"""Messages and answers as the exchanges send them, with the fields their documentation shows."""

from __future__ import annotations

BINANCE_KLINES = """[[1499040000000,"0.01634790","0.80000000","0.01575800","0.01577100",
"148976.11427815",1499040059999,"2434.19055334",308,"1756.87402397","28.46694368","0"]]"""

BINANCE_CLOSED = """{"stream":"bnbbtc@kline_1m","data":{"e":"kline","E":1672515840012,"s":"BNBBTC",
"k":{"t":1672515780000,"T":1672515839999,"s":"BNBBTC","i":"1m","f":100,"L":200,"o":"0.0010",
"c":"0.0020","h":"0.0025","l":"0.0010","v":"1000","n":100,"x":true,"q":"1.0000","V":"500",
"Q":"0.500","B":"123456"}}}"""

BINANCE_RUNNING = BINANCE_CLOSED.replace('"x":true', '"x":false')

BINANCE_SHUTDOWN = """{"stream":"!serverShutdown","data":{"e":"serverShutdown",
"E":1770123456789}}"""

BINANCE_SPOT_INFO = """{"timezone":"UTC","serverTime":1565246363776,"rateLimits":[
{"rateLimitType":"RAW_REQUESTS","interval":"MINUTE","intervalNum":5,"limit":61000},
{"rateLimitType":"REQUEST_WEIGHT","interval":"MINUTE","intervalNum":1,"limit":6000}],
"exchangeFilters":[],"symbols":[
{"symbol":"ETHBTC","status":"TRADING","baseAsset":"ETH","baseAssetPrecision":8,"quoteAsset":"BTC",
"isSpotTradingAllowed":true,"filters":[
{"filterType":"PRICE_FILTER","minPrice":"0.00001000","maxPrice":"922327.0","tickSize":"0.00001000"},
{"filterType":"LOT_SIZE","minQty":"0.00010000","maxQty":"100000.0","stepSize":"0.00010000"},
{"filterType":"NOTIONAL","minNotional":"0.00010000","applyMinToMarket":true,
"maxNotional":"9000000.00000000","avgPriceMins":5}]},
{"symbol":"OLDBTC","status":"BREAK","baseAsset":"OLD","quoteAsset":"BTC","filters":[
{"filterType":"PRICE_FILTER","minPrice":"0","maxPrice":"0","tickSize":"0.00000000"},
{"filterType":"MIN_NOTIONAL","minNotional":"0.00050000","applyToMarket":true}]}]}"""

BINANCE_USD_M_INFO = """{"exchangeFilters":[],"rateLimits":[
{"interval":"MINUTE","intervalNum":1,"limit":2400,"rateLimitType":"REQUEST_WEIGHT"},
{"interval":"MINUTE","intervalNum":1,"limit":1200,"rateLimitType":"ORDERS"}],
"serverTime":1565613908500,"assets":[],"symbols":[
{"symbol":"BLZUSDT","pair":"BLZUSDT","contractType":"PERPETUAL","deliveryDate":4133404800000,
"onboardDate":1598252400000,"status":"TRADING","baseAsset":"BLZ","quoteAsset":"USDT",
"marginAsset":"USDT","filters":[
{"filterType":"PRICE_FILTER","maxPrice":"300","minPrice":"0.0001","tickSize":"0.0001"},
{"filterType":"LOT_SIZE","maxQty":"10000000","minQty":"1","stepSize":"1"},
{"filterType":"MARKET_LOT_SIZE","maxQty":"590119","minQty":"1","stepSize":"1"},
{"filterType":"MIN_NOTIONAL","notional":"5.0"}]}],"timezone":"UTC"}"""

BYBIT_KLINES = """{"retCode":0,"retMsg":"OK","result":{"symbol":"BTCUSDT","category":"linear",
"list":[["1670608860000","17055.5","17073","17027","17055.5","268611","15.74462667"],
["1670608800000","17071","17071.5","17051.5","17055.5","177276","10.38"]]},
"retExtInfo":{},"time":1672025956592}"""

BYBIT_CLOSED = """{"topic":"kline.1.BTCUSDT","data":[{"start":1672324800000,"end":1672324859999,
"interval":"1","open":"16649.5","close":"16677","high":"16677","low":"16608","volume":"2.081",
"turnover":"34666.4005","confirm":true,"timestamp":1672324860032}],"ts":1672324860032,
"type":"snapshot"}"""

BYBIT_RUNNING = BYBIT_CLOSED.replace('"confirm":true', '"confirm":false')

BYBIT_ACK = """{"success":true,"ret_msg":"","conn_id":"2324d924-aa4d-45b0-a858-7b8be29ab52b",
"req_id":"","op":"subscribe"}"""
BYBIT_TOO_MANY_ARGS = """{"success":false,"ret_msg":"args size >10","conn_id":"2324d924",
"req_id":"","op":"subscribe"}"""
BYBIT_PONG = """{"success":true,"ret_msg":"pong","conn_id":"0970e817-426e-429a-a679-ff7f55e0b16a",
"req_id":"","op":"ping"}"""

BYBIT_SPOT_INSTRUMENTS = """{"retCode":0,"retMsg":"OK","result":{"category":"spot","list":[
{"symbol":"BTCUSDT","baseCoin":"BTC","quoteCoin":"USDT","innovation":"0","status":"Trading",
"marginTrading":"utaOnly","lotSizeFilter":{"basePrecision":"0.000001","quotePrecision":"0.0000001",
"minOrderQty":"0.000011","maxOrderQty":"83","minOrderAmt":"5","maxOrderAmt":"8000000"},
"priceFilter":{"tickSize":"0.1"}}]},"retExtInfo":{},"time":1672712468011}"""

BYBIT_LINEAR_INSTRUMENTS = """{"retCode":0,"retMsg":"OK","result":{"category":"linear","list":[
{"symbol":"BTCUSDT","contractType":"LinearPerpetual","status":"Trading","baseCoin":"BTC",
"quoteCoin":"USDT","launchTime":"1585526400000","deliveryTime":"0","priceScale":"2",
"priceFilter":{"minPrice":"0.10","maxPrice":"1999999.80","tickSize":"0.10"},
"lotSizeFilter":{"maxOrderQty":"1190.000","minOrderQty":"0.001","qtyStep":"0.001",
"postOnlyMaxOrderQty":"1190.000","maxMktOrderQty":"500.000","minNotionalValue":"5"}},
{"symbol":"GONEUSDT","status":"Closed","baseCoin":"GONE","quoteCoin":"USDT",
"launchTime":"1585526400000","priceFilter":{"tickSize":"abc"},
"lotSizeFilter":{"minOrderQty":"1"}}],"nextPageCursor":"first%3DGONE"},"time":1707186451514}"""
