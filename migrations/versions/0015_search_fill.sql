-- How do the words of tickets come into an index, and leave it? One transaction writes all that belongs together; its
-- lock on the row in search_indexes keeps another from writing the same.

-- The day by which filters find a moment, in UTC; years without four digits are not in order as words.
CREATE FUNCTION search_day(moment timestamptz) RETURNS timestamp
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT greatest(timestamp '0001-01-01', least(moment AT TIME ZONE 'UTC', timestamp '9999-12-31'))
$$;

-- By what a filter of a question finds a ticket, beside its words, which no blank begins: its priority, its tags, and
-- the day, month and year (UTC) in which it was resolved.
CREATE FUNCTION search_filter_words(priority text, tags text[], resolved_date timestamptz) RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT ARRAY[' p' || left(priority, 100)]
        || ARRAY(SELECT DISTINCT ' t' || left(tag, 100) FROM unnest(tags) AS tag WHERE tag IS NOT NULL)
        || ARRAY(SELECT to_char(@schema@.search_day(resolved_date), form)
                 FROM unnest(ARRAY['" d"YYYYMMDD', '" m"YYYYMM', '" y"YYYY']) AS form)
$$;

-- What the words of a ticket are made of, as a number; null for one that is no answer.
CREATE FUNCTION search_made_of(ticket @schema@.ticket_history) RETURNS bigint
LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN @schema@.search_has_text(ticket.resolution) THEN
             hashtextextended(concat_ws(chr(1), ticket.description, ticket.priority, ticket.tags,
                                        extract(epoch FROM ticket.resolved_date)), 0) END
$$;

-- The configuration of that name; one that is gone is replaced by `simple`, so that no other tenant waits for it.
CREATE FUNCTION search_configuration(name text) RETURNS regconfig
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN CAST(name AS regconfig);
EXCEPTION WHEN OTHERS THEN
    RETURN CAST('pg_catalog.simple' AS regconfig);
END;
$$;

-- What is added to a word's row, or taken out of it.
CREATE TYPE search_change AS (
    id int,
    numbers int[],
    impacts smallint[]
);

-- Adds tickets to the lists of words. Full lists move to search_postings.
CREATE FUNCTION search_add_postings(changes @schema@.search_change[]) RETURNS void
LANGUAGE plpgsql SET enable_nestloop = on SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off
SET enable_bitmapscan = off
AS $$
DECLARE
    longest CONSTANT int := 64;  -- so short a row is quickly written anew, and few of so many are read for a frequent word
    long int[];
BEGIN
    WITH longer AS (
      UPDATE @schema@.search_words AS one
      SET tickets = one.tickets + cardinality(change.numbers), numbers = one.numbers || change.numbers,
          impacts = one.impacts || change.impacts
      FROM unnest(changes) AS change WHERE one.id = change.id
      RETURNING one.id, cardinality(one.numbers) AS count
    )
    SELECT array_agg(id) INTO long FROM longer WHERE count > longest;
    IF long IS NOT NULL THEN
        WITH part AS MATERIALIZED (
          SELECT id, block, array_agg(number ORDER BY number) AS numbers, array_agg(impact ORDER BY number) AS impacts
          FROM (SELECT id, (place - 1) / longest AS block, number, impact
                FROM unnest(long) AS wanted (word_id)
                CROSS JOIN LATERAL (SELECT id, numbers, impacts FROM @schema@.search_words WHERE id = word_id OFFSET 0) AS of
                CROSS JOIN LATERAL unnest(numbers, impacts) WITH ORDINALITY AS each (number, impact, place)) AS whole
          GROUP BY id, block
        ), moved AS (
          INSERT INTO @schema@.search_postings (word, last, numbers, impacts)
          SELECT id, numbers[longest], numbers, impacts FROM part WHERE cardinality(numbers) = longest
        )
        UPDATE @schema@.search_words AS one
        SET numbers = coalesce(rest.numbers, '{}'), impacts = coalesce(rest.impacts, '{}')
        FROM unnest(long) AS wanted (word_id)
        LEFT JOIN (SELECT * FROM part WHERE cardinality(numbers) < longest) AS rest ON rest.id = word_id
        WHERE one.id = word_id;
    END IF;
END;
$$;

-- Puts tickets, which are not in the index, into it. A piece that many tickets have is taken apart once.
CREATE FUNCTION search_put_in(of_index int, put bigint[]) RETURNS void
LANGUAGE plpgsql SET enable_hashjoin = on SET enable_nestloop = off SET enable_mergejoin = off SET enable_seqscan = off
SET enable_bitmapscan = off SET enable_memoize = off SET work_mem = '64MB' AS $$
DECLARE
    of @schema@.search_indexes;
    language regconfig;
    changes @schema@.search_change[];
BEGIN
    SELECT * INTO of FROM @schema@.search_indexes WHERE id = of_index;
    language := @schema@.search_configuration(of.configuration);
    WITH ticket AS MATERIALIZED (
      SELECT one.* FROM unnest(put) AS wanted (wanted_id)
      CROSS JOIN LATERAL (SELECT id, description, resolved_date, @schema@.search_made_of(one) AS made_of,
                                 @schema@.search_filter_words(priority, tags, resolved_date) AS filters
                          FROM @schema@.ticket_history AS one WHERE id = wanted_id OFFSET 0) AS one
    ), piece AS MATERIALIZED (
      SELECT id AS ticket, piece FROM ticket CROSS JOIN LATERAL unnest(@schema@.search_pieces(description)) AS piece
      WHERE piece <> ''
    ), taken_apart AS MATERIALIZED (
      SELECT piece, each AS word FROM (SELECT DISTINCT piece FROM piece) AS one
      CROSS JOIN LATERAL @schema@.search_words_of(language, piece) AS made CROSS JOIN LATERAL unnest(made.words) AS each
    ), filter AS MATERIALIZED (
      SELECT id AS ticket, each AS word FROM ticket CROSS JOIN LATERAL unnest(filters) AS each
    ), word AS MATERIALIZED (
      SELECT word, coalesce(found.id, nextval('@schema@.search_words_id_seq')::int) AS id, found.id IS NULL AS is_new,
             @schema@.search_is_counted(word) AS is_counted
      FROM (SELECT word FROM taken_apart UNION SELECT word FROM filter) AS each
      LEFT JOIN LATERAL (SELECT id FROM @schema@.search_words AS one
                         WHERE one.index_id = of_index AND one.word = each.word OFFSET 0) AS found ON true
    ), each AS MATERIALIZED (
      SELECT ticket, word.id AS word, least(count(*), 32767)::smallint AS n, is_counted
      FROM piece JOIN taken_apart USING (piece) JOIN word USING (word)
      GROUP BY ticket, word.id, is_counted
      UNION ALL
      SELECT ticket, word.id, 0::smallint, false FROM filter JOIN word USING (word)
    ), numbered AS MATERIALIZED (
      SELECT ticket, of.last_number + (row_number() OVER (ORDER BY ticket))::int AS number, length, words, counts
      FROM (SELECT ticket, coalesce(sum(n) FILTER (WHERE is_counted), 0)::int AS length, array_agg(word ORDER BY word) AS words, array_agg(n ORDER BY word) AS counts
            FROM each GROUP BY ticket) AS sums
    ), whole AS MATERIALIZED (
      SELECT max(number) AS last_number, count(*) AS tickets, sum(length) AS words,
             greatest(1, (of.words + sum(length))::float8 / (of.tickets + count(*))) AS average
      FROM numbered
    ), written AS (
      INSERT INTO @schema@.search_tickets (index_id, number, ticket, words, counts, length, resolved_date, made_of)
      SELECT of_index, number, id, words, counts, length, resolved_date, made_of
      FROM numbered JOIN ticket ON id = numbered.ticket
    ), more AS (
      UPDATE @schema@.search_indexes AS one
      SET last_number = whole.last_number, tickets = one.tickets + whole.tickets, words = one.words + whole.words
      FROM whole WHERE one.id = of_index AND whole.tickets > 0
    ), list AS MATERIALIZED (
      SELECT word AS id, array_agg(number ORDER BY number) AS numbers, array_agg(impact ORDER BY number) AS impacts
      FROM (SELECT each.word, number, (1000 * n * 2.5::float8
                                       / (n + 0.375::float8 + 1.125::float8 * length / average))::smallint AS impact
            FROM each JOIN numbered USING (ticket) CROSS JOIN whole) AS posting
      GROUP BY word
    ), new AS (
      INSERT INTO @schema@.search_words (index_id, word, id, tickets, numbers, impacts) OVERRIDING SYSTEM VALUE
      SELECT of_index, word, id, cardinality(numbers), numbers, impacts FROM list JOIN word USING (id) WHERE is_new
    )
    SELECT array_agg(ROW(id, CASE WHEN is_new THEN '{}' ELSE numbers END,
                         CASE WHEN is_new THEN '{}' ELSE impacts END)::@schema@.search_change) INTO changes
    FROM list JOIN word USING (id) WHERE NOT is_new OR cardinality(numbers) > 64;
    PERFORM @schema@.search_add_postings(changes);
END;
$$;

-- Takes tickets out of an index. Words that no ticket has any more go.
CREATE FUNCTION search_take_out(of_index int, taken bigint[]) RETURNS void
LANGUAGE plpgsql SET enable_nestloop = on SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off
SET enable_bitmapscan = off
AS $$
DECLARE
    changes @schema@.search_change[];
    emptied int[];
    lasts int[];
BEGIN
    WITH gone AS MATERIALIZED (
      SELECT one.* FROM unnest(taken) AS wanted (id)
      CROSS JOIN LATERAL (SELECT number, ticket, words, length FROM @schema@.search_tickets AS one
                          WHERE one.index_id = of_index AND one.ticket = wanted.id OFFSET 0) AS one
    ), deleted AS (
      DELETE FROM @schema@.search_tickets AS one WHERE index_id = of_index AND number = ANY (ARRAY(SELECT number FROM gone))
    ), less AS (
      UPDATE @schema@.search_indexes AS one SET tickets = one.tickets - sums.tickets, words = one.words - sums.words
      FROM (SELECT count(*) AS tickets, sum(length) AS words FROM gone) AS sums
      WHERE one.id = of_index AND sums.tickets > 0
    )
    SELECT array_agg(ROW(id, numbers, NULL)::@schema@.search_change) INTO changes
    FROM (SELECT id, array_agg(number) AS numbers FROM gone CROSS JOIN LATERAL unnest(words) AS id GROUP BY id) AS each;
    IF changes IS NULL THEN
        RETURN;
    END IF;

    UPDATE @schema@.search_words AS one
    SET tickets = one.tickets - cardinality(change.numbers),
        (numbers, impacts) = (SELECT coalesce(array_agg(number ORDER BY number), '{}'),
                                     coalesce(array_agg(impact ORDER BY number), '{}')
                              FROM unnest(one.numbers, one.impacts) AS each (number, impact)
                              WHERE number <> ALL (change.numbers))
    FROM unnest(changes) AS change WHERE one.id = change.id;

    WITH less AS (
      UPDATE @schema@.search_postings AS one
      SET (numbers, impacts) = (SELECT coalesce(array_agg(number ORDER BY number), '{}'),
                                       coalesce(array_agg(impact ORDER BY number), '{}')
                                FROM unnest(one.numbers, one.impacts) AS each (number, impact)
                                WHERE number <> ALL (change.numbers))
      FROM unnest(changes) AS change
      CROSS JOIN LATERAL (SELECT DISTINCT block.last
                          FROM unnest(change.numbers) AS number
                          CROSS JOIN LATERAL (SELECT last FROM @schema@.search_postings AS block
                                              WHERE block.word = change.id AND block.last >= number
                                              ORDER BY block.last LIMIT 1) AS block) AS holding
      WHERE one.word = change.id AND one.last = holding.last
      RETURNING one.word, one.last, one.numbers
    )
    SELECT array_agg(word), array_agg(last) INTO emptied, lasts FROM less WHERE numbers = '{}';
    DELETE FROM @schema@.search_postings AS one USING unnest(emptied, lasts) AS empty (word, last)
    WHERE one.word = empty.word AND one.last = empty.last;

    WITH unused AS (
      DELETE FROM @schema@.search_words AS one USING unnest(changes) AS change
      WHERE one.id = change.id AND one.tickets <= 0
      RETURNING one.id
    )
    DELETE FROM @schema@.search_postings WHERE word = ANY (ARRAY(SELECT id FROM unused));
END;
$$;

-- Makes the words of tickets anew where they are not what the tickets are made of now. The caller has locked the index.
CREATE FUNCTION search_write(of_index int, written bigint[]) RETURNS void
LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    changed bigint[];
    put bigint[];
BEGIN
    SELECT array_agg(id), array_agg(id) FILTER (WHERE now_of IS NOT NULL) INTO changed, put
    FROM (SELECT DISTINCT id FROM unnest(written) AS id) AS wanted
    LEFT JOIN LATERAL (SELECT @schema@.search_made_of(one) AS now_of FROM @schema@.ticket_history AS one
                       WHERE one.id = wanted.id
                         AND one.tenant_id = (SELECT tenant_id FROM @schema@.search_indexes WHERE id = of_index)
                       OFFSET 0) AS ticket ON true
    LEFT JOIN LATERAL (SELECT made_of FROM @schema@.search_tickets AS one
                       WHERE one.index_id = of_index AND one.ticket = wanted.id OFFSET 0) AS indexed ON true
    WHERE now_of IS DISTINCT FROM made_of;
    IF changed IS NULL THEN
        RETURN;
    END IF;
    BEGIN
        PERFORM @schema@.search_take_out(of_index, changed);
        IF put IS NOT NULL THEN
            PERFORM @schema@.search_put_in(of_index, put);
        END IF;
    EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
        -- A ticket that Postgres can make no words of keeps no other from being found.
        IF cardinality(changed) > 1 THEN
            PERFORM @schema@.search_write(of_index, changed[:cardinality(changed) / 2]);
            PERFORM @schema@.search_write(of_index, changed[cardinality(changed) / 2 + 1:]);
        ELSE
            PERFORM @schema@.search_take_out(of_index, changed);
            RAISE WARNING 'a ticket is not found by its words: %', SQLSTATE;
        END IF;
    END;
END;
$$;
