-- Money and time as every statement reads them: what llmscope.money and llmscope.timestamps do, in SQL.

-- `amount` with 28 decimals, which hold every digit that can decide a half: a double prints at most 17
-- significant digits, and what lies below 5e-10 rounds to zero. Null when it does not fit.
CREATE OR REPLACE MACRO usd_digits(amount) AS TRY_CAST(CAST(amount AS VARCHAR) AS DECIMAL(38, 28));

-- `round` takes halves away from zero: a half that landed on an odd digit is stepped back.
CREATE OR REPLACE MACRO usd_exact(amount) AS (
    CASE
        WHEN abs(round(usd_digits(amount), 9) - usd_digits(amount)) = 0.0000000005
            AND CAST(round(usd_digits(amount), 9) * 1000000000 AS HUGEINT) % 2 != 0
        THEN TRY_CAST(round(usd_digits(amount), 9) - sign(usd_digits(amount)) * 0.000000001 AS DECIMAL(18, 9))
        ELSE TRY_CAST(round(usd_digits(amount), 9) AS DECIMAL(18, 9))
    END
);

-- USD, from a double or its text, as DECIMAL(18,9) rounded half to even. Below 1000 dollars a double
-- counts nano-dollars to within 0.0003, so only neighbours of a half need the exact way.
CREATE OR REPLACE MACRO usd(amount) AS (
    CASE
        WHEN abs(CAST(amount AS DOUBLE)) < 1000
            AND abs(CAST(amount AS DOUBLE) * 1e9 - round(CAST(amount AS DOUBLE) * 1e9)) < 0.499
        THEN CAST(
            CAST(CAST(round(CAST(amount AS DOUBLE) * 1e9) AS BIGINT) AS DECIMAL(18, 0)) * 0.000000001
            AS DECIMAL(18, 9)
        )
        ELSE usd_exact(CAST(amount AS DOUBLE))
    END
);

-- Minutes that the offset at the end of a written instant is ahead of UTC; 0 for `Z` or none.
CREATE OR REPLACE MACRO offset_minutes(written) AS (
    CASE
        WHEN right(written, 1) = 'Z' OR right(written, 6) = '+00:00' OR written[-6] NOT IN ('+', '-') THEN 0
        ELSE CAST(written[-6] || '1' AS BIGINT)
            * (CAST(written[-5:-4] AS BIGINT) * 60 + CAST(right(written, 2) AS BIGINT))
    END
);

-- An event's instant, or null where llmscope.timestamps.parse_micros refuses: naive is UTC, `+00:00Z`
-- is read as `Z`, digits after the sixth are cut, before 2000 or from 2100 on is absurd. The form that our
-- own writer uses comes first: it is read five times as fast.
CREATE OR REPLACE MACRO event_time(written) AS (
    CASE
        WHEN regexp_full_match(
            written, '20\d{2}-\d{2}-\d{2}T([01]\d|2[0-3]):[0-5]\d:[0-5]\d\.\d{6}\+00:00'
        )
        THEN make_timestamptz(epoch_us(TRY_CAST(written AS TIMESTAMP)))
        WHEN regexp_full_match(
                written,
                '\d{4}-\d{2}-\d{2}[T ]([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,9})?(Z|\+00:00Z|[+-]\d{2}:[0-5]\d)?'
            )
            AND abs(offset_minutes(written)) < 1440
            AND TRY_CAST(regexp_extract(written, '^.{19}(\.\d{1,6})?') AS TIMESTAMP)
                - to_minutes(offset_minutes(written)) >= TIMESTAMP '2000-01-01'
            AND TRY_CAST(regexp_extract(written, '^.{19}(\.\d{1,6})?') AS TIMESTAMP)
                - to_minutes(offset_minutes(written)) < TIMESTAMP '2100-01-01'
        THEN make_timestamptz(epoch_us(
            TRY_CAST(regexp_extract(written, '^.{19}(\.\d{1,6})?') AS TIMESTAMP)
            - to_minutes(offset_minutes(written))
        ))
    END
);
