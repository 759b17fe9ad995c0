-- As billed against repriced. Rates are in femto-USD a token (`repriced_rates`, registered by the caller), so that
-- a request is one whole number until its one rounding to nano-USD, half to even, as llmscope.gateway.rates does.
-- A request whose tokens are not known, or not those of one model, has no price: a failed call with an unknown
-- bill, a cascade's several answers, cached tokens beyond the input. A hit costs nothing at any price.
-- param since: the first instant, TIMESTAMPTZ, null for all time
-- param by_tenant: whether tenants stand apart
WITH bills AS (
    SELECT
        fct_requests.model,
        if($by_tenant, fct_requests.tenant_id, NULL) AS tenant_id,
        coalesce(fct_requests.provider, '') AS provider,
        CAST(fct_requests.timestamp AS DATE) AS day,
        fct_requests.tokens_in,
        fct_requests.tokens_out,
        coalesce(fct_requests.cache_read_tokens, 0) AS cache_read_tokens,
        coalesce(fct_requests.cache_write_tokens, 0) AS cache_write_tokens,
        fct_requests.cost_usd,
        fct_requests.cost_source IS NOT DISTINCT FROM 'cached_zero'
            OR (
                fct_requests.cost_usd = 0
                AND coalesce(fct_requests.tokens_in, 0) + coalesce(fct_requests.tokens_out, 0) = 0
            ) AS is_free,
        fct_requests.tokens_in + fct_requests.tokens_out > 0
            AND coalesce(fct_requests.answer_count, 1) <= 1
            AND NOT (fct_requests.cost_usd IS NULL AND fct_requests.status IS NOT DISTINCT FROM 'error')
            AND coalesce(fct_requests.cache_read_tokens, 0) + coalesce(fct_requests.cache_write_tokens, 0)
                <= fct_requests.tokens_in AS has_known_tokens
    FROM marts.fct_requests
    WHERE
        fct_requests.has_telemetry
        AND (CAST($since AS TIMESTAMPTZ) IS NULL OR fct_requests.timestamp >= $since)
),

in_femto AS (
    SELECT
        bills.*,
        rates.price_version,
        CASE
            WHEN bills.is_free THEN CAST(0 AS HUGEINT)
            WHEN bills.has_known_tokens
            THEN
                CAST(bills.tokens_in - bills.cache_read_tokens - bills.cache_write_tokens AS HUGEINT) * rates.femto_in
                + CAST(bills.tokens_out AS HUGEINT) * rates.femto_out
                + CAST(bills.cache_read_tokens AS HUGEINT) * rates.femto_cache_read
                + CAST(bills.cache_write_tokens AS HUGEINT) * rates.femto_cache_write
        END AS femto
    FROM bills
    ASOF LEFT JOIN (SELECT * REPLACE (coalesce(provider, '') AS provider) FROM repriced_rates) AS rates
        ON bills.model = rates.model
        AND bills.provider = rates.provider
        AND bills.day = rates.day
        AND coalesce(bills.tokens_in, 0) > rates.above_input_tokens
),

in_nano AS (
    SELECT
        *,
        CAST(cost_usd * 1000000000 AS HUGEINT) AS billed_nano,
        femto // 1000000 + CAST(
            femto % 1000000 > 500000 OR (femto % 1000000 = 500000 AND (femto // 1000000) % 2 = 1) AS HUGEINT
        ) AS repriced_nano
    FROM in_femto
)

SELECT
    model,
    tenant_id,
    count(*) AS request_count,
    CAST(coalesce(sum(tokens_in), 0) AS HUGEINT) AS tokens_in,
    CAST(coalesce(sum(tokens_out), 0) AS HUGEINT) AS tokens_out,
    coalesce(sum(cost_usd), 0) AS billed_usd,
    count(*) FILTER (cost_usd IS NULL) AS unpriced_before,
    coalesce(sum(repriced_nano), 0) AS repriced_nano,
    count(*) FILTER (repriced_nano IS NULL) AS unpriced_after,
    coalesce(sum(repriced_nano - billed_nano), 0) AS delta_nano,
    coalesce(sum(repriced_nano) FILTER (cost_usd IS NULL), 0) AS newly_priced_nano,
    coalesce(sum(cost_usd) FILTER (repriced_nano IS NULL), 0) AS not_repriced_usd,
    string_agg(DISTINCT price_version, ', ' ORDER BY price_version) FILTER (repriced_nano IS NOT NULL AND NOT is_free)
        AS price_version
FROM in_nano
GROUP BY model, tenant_id
ORDER BY abs(coalesce(sum(repriced_nano - billed_nano), 0)) DESC, billed_usd DESC, model, tenant_id
