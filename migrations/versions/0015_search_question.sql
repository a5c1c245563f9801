-- How does a question find tickets? Its rare words name candidates, and BM25 says which of them are best.
-- k1 is 1.5 and b 0.75; a word's weight is ln(1 + (N - n + 0.5) / (n + 0.5)), as Lucene has it.

CREATE TYPE search_word AS (
    word text,
    typed text,
    n int,  -- how often it is in the question
    id int,  -- null for one that no ticket has
    tickets int,
    within int[]  -- the numbers of the words that are parts of it
);

-- One way to find tickets: by a word, or by any of the longer ones that begin with it, at less weight.
CREATE TYPE search_term AS (
    number int,  -- of the question's word
    is_whole boolean,
    ids int[],
    tickets int,
    weight double precision
);

-- A word of a question in a ticket that is not in the index; a ticket that has none has one row, without a number.
CREATE TYPE search_fresh AS (
    ticket bigint,
    length int,  -- of the ticket, in words
    number int,  -- of the question's word
    n int,
    is_whole boolean  -- or a longer word that begins with it
);

CREATE TYPE search_score AS (
    ticket bigint,
    score double precision,
    numbers int[]  -- of the question's words that it was found by
);

-- What a ticket must have: one of these words.
CREATE TYPE search_filter AS (
    ids int[],
    tickets int
);

CREATE FUNCTION search_idf(total int, tickets int) RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT ln(1 + (greatest(total, tickets) - tickets + 0.5::double precision) / (tickets + 0.5::double precision))
$$;

-- The part of a word's weight by which it finds a longer one that begins with it.
CREATE FUNCTION search_share() RETURNS double precision LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT 0.3::float8 $$;

-- The words of a question, each with what was typed. Those that are parts of another one come before it.
CREATE FUNCTION search_question(of_index int, configuration regconfig, asked text) RETURNS @schema@.search_word[]
LANGUAGE plpgsql STABLE SET enable_hashjoin = on SET enable_nestloop = off AS $$
BEGIN
    RETURN ARRAY(
      WITH piece AS MATERIALIZED (
        SELECT piece, count(*) AS n, min(place) AS place
        FROM unnest(@schema@.search_pieces(asked)) WITH ORDINALITY AS pieces (piece, place)
        WHERE piece <> '' GROUP BY piece
      ), part AS MATERIALIZED (
        SELECT piece.place, n, part, word, cardinality(made.words) > 1 AND piece ~ '[0-9._-]' AS has_parts
        FROM piece CROSS JOIN LATERAL @schema@.search_words_of(configuration, piece) AS made
        CROSS JOIN LATERAL unnest(made.parts, made.words) AS pair (part, word)
      ), word AS MATERIALIZED (
        SELECT word, sum(n)::int AS n, (array_agg(part ORDER BY has_parts, place))[1] AS typed,
               row_number() OVER (ORDER BY length(word), word) AS number
        FROM part GROUP BY word
      ), within AS MATERIALIZED (
        SELECT whole.word, array_agg(DISTINCT number) AS numbers
        FROM (SELECT * FROM part WHERE has_parts) AS whole JOIN part AS one USING (place) JOIN word ON word.word = one.word
        WHERE whole.word ~ '[0-9._-]' AND length(whole.word) > length(one.word)
          AND CASE WHEN whole.word ~ '[._-]' THEN position(one.word IN whole.word) > 0
              ELSE right(whole.word, length(one.word)) = one.word END
        GROUP BY whole.word
      )
      SELECT ROW(word, typed, n, found.id, coalesce(found.tickets, 0), within.numbers)::@schema@.search_word
      FROM word LEFT JOIN within USING (word)
      LEFT JOIN LATERAL (SELECT id, tickets FROM @schema@.search_words AS one
                         WHERE one.index_id = of_index AND one.word = word.word OFFSET 0) AS found ON true
      ORDER BY number);
END;
$$;

-- What each word weighs: by how few tickets have it. A code and its parts together weigh as much as the rarer, be it the
-- code or all of its parts; so the code itself has what its parts lack.
CREATE FUNCTION search_weights(of @schema@.search_indexes, words @schema@.search_word[]) RETURNS double precision[]
LANGUAGE plpgsql STABLE AS $$
DECLARE
    weights float8[] := ARRAY(SELECT @schema@.search_idf(of.tickets, tickets) FROM unnest(words));
    whole record;
BEGIN
    FOR whole IN SELECT number, within FROM unnest(words) WITH ORDINALITY AS one (word, typed, n, id, tickets, within, number)
                 WHERE within IS NOT NULL ORDER BY number LOOP
        weights[whole.number] := greatest(0, weights[whole.number]
                                             - (SELECT sum(weights[number]) FROM unnest(whole.within) AS number));
    END LOOP;
    RETURN weights;
END;
$$;

-- BM25 of a question with itself, as if it were a ticket.
CREATE FUNCTION search_own_score(
    of @schema@.search_indexes, words @schema@.search_word[], weights double precision[]) RETURNS double precision
LANGUAGE plpgsql STABLE AS $$
DECLARE
    average CONSTANT float8 := greatest(1, of.words::float8 / greatest(1, of.tickets));
    length CONSTANT int := (SELECT sum(n) FILTER (WHERE @schema@.search_is_counted(word)) FROM unnest(words));
BEGIN
    RETURN (SELECT sum(n * weight * n * 2.5::float8 / (n + 0.375::float8 + 1.125::float8 * length / average))
            FROM unnest(words) WITH ORDINALITY AS one (word, typed, n, id, tickets, within, number)
            JOIN unnest(weights) WITH ORDINALITY AS each (weight, number) USING (number));
END;
$$;

-- What tickets can be found by: the words, and those that begin with one of four letters or more.
CREATE FUNCTION search_terms(
    of @schema@.search_indexes, words @schema@.search_word[], weights double precision[], fresh @schema@.search_fresh[])
RETURNS @schema@.search_term[]
LANGUAGE plpgsql STABLE SET enable_hashjoin = on AS $$
DECLARE
    extended CONSTANT int := 60;  -- words of the question that longer ones are looked up for, the most telling
    looked_at CONSTANT int := 100;  -- longer words, of which the shortest count
    most CONSTANT int := 20;
BEGIN
    RETURN ARRAY(
      WITH asked AS MATERIALIZED (
        SELECT number, word, n, id, tickets, weight
        FROM unnest(words) WITH ORDINALITY AS one (word, typed, n, id, tickets, within, number)
        JOIN unnest(weights) WITH ORDINALITY AS each (weight, number) USING (number)
      )
      SELECT ROW(number, true, array_remove(ARRAY[id], NULL), tickets, n * weight)::@schema@.search_term
      FROM asked WHERE id IS NOT NULL OR tickets > 0
      UNION ALL
      SELECT ROW(number, false, coalesce(longer.ids, '{}'), longer_tickets, @schema@.search_share() * n
                 * @schema@.search_idf(of.tickets, greatest(longer_tickets, asked.tickets)))::@schema@.search_term
      FROM (SELECT * FROM asked WHERE @schema@.search_finds_longer(word) ORDER BY n * weight DESC, number LIMIT extended) AS asked
      CROSS JOIN LATERAL (
        SELECT array_agg(best.id) AS ids, sum(best.tickets) AS tickets
        FROM (SELECT one.id, one.tickets
              FROM (SELECT word, id, tickets FROM @schema@.search_words AS one
                    WHERE one.index_id = of.id AND one.word > asked.word AND one.word < asked.word || chr(1114111)
                    ORDER BY one.word LIMIT looked_at) AS one
              ORDER BY length(one.word), one.word LIMIT most) AS best
      ) AS longer
      LEFT JOIN (SELECT number, count(*) AS tickets FROM unnest(fresh) WHERE NOT is_whole GROUP BY number) AS new USING (number)
      CROSS JOIN LATERAL (SELECT least(coalesce(longer.tickets, 0) + coalesce(new.tickets, 0), of.tickets)::int) AS sum (longer_tickets)
      WHERE longer_tickets > 0);
END;
$$;

-- The words that filters find tickets by, a row for each filter that there is.
CREATE FUNCTION search_filters(
    of_index int, resolved_after timestamptz, priority text[], tags text[]) RETURNS @schema@.search_filter[]
LANGUAGE plpgsql STABLE AS $$
DECLARE
    day CONSTANT timestamp := @schema@.search_day(resolved_after);
BEGIN
    RETURN ARRAY(
      SELECT ROW(coalesce(array_agg(id), '{}'), coalesce(sum(tickets), 0))::@schema@.search_filter
      FROM (SELECT 1 AS kind, ' p' || left(one, 100) AS first, ' p' || left(one, 100) AS last FROM unnest(priority) AS one
            UNION ALL SELECT 2, ' t' || left(one, 100), ' t' || left(one, 100) FROM unnest(tags) AS one
            UNION ALL SELECT 3, to_char(day, '" d"YYYYMMDD'), to_char(day, '" d"YYYYMM"99"') WHERE day IS NOT NULL
            UNION ALL SELECT 3, to_char(day, '" m"YYYYMM"~"'), to_char(day, '" m"YYYY"99"') WHERE day IS NOT NULL
            UNION ALL SELECT 3, to_char(day, '" y"YYYY"~"'), ' z' WHERE day IS NOT NULL) AS wanted
      LEFT JOIN LATERAL (SELECT id, tickets FROM @schema@.search_words AS one
                         WHERE one.index_id = of_index AND one.word BETWEEN wanted.first AND wanted.last OFFSET 0) AS found
        ON true
      GROUP BY kind);
END;
$$;

-- The numbers of at most `most` tickets, from a number on: those for which the terms add up to most. Of `among` alone,
-- unless that is null.
CREATE FUNCTION search_sum(terms @schema@.search_term[], first int, among int[], most int) RETURNS int[]
LANGUAGE plpgsql STABLE SET enable_hashjoin = on SET enable_nestloop = off AS $$
BEGIN
    RETURN ARRAY(
      SELECT number
      FROM (SELECT term.weight, unnest(list.numbers) AS number, unnest(list.impacts) AS impact
            FROM unnest(terms) AS term CROSS JOIN LATERAL unnest(term.ids) AS word_id
            CROSS JOIN LATERAL (
              SELECT one.numbers, one.impacts FROM @schema@.search_words AS one WHERE one.id = word_id
              UNION ALL
              SELECT one.numbers, one.impacts FROM @schema@.search_postings AS one
              WHERE one.word = word_id AND one.last >= first
            ) AS list) AS posting
      WHERE number >= first AND (among IS NULL OR number IN (SELECT unnest(among)))
      GROUP BY number ORDER BY sum(weight * impact) DESC, number DESC LIMIT most);
END;
$$;

-- BM25 of those tickets that the filters let through, without those that are `due`.
CREATE FUNCTION search_scores(
    of @schema@.search_indexes, candidates int[], terms @schema@.search_term[], due bigint[], resolved_after timestamptz,
    filters @schema@.search_filter[]) RETURNS @schema@.search_score[]
LANGUAGE plpgsql STABLE SET enable_hashjoin = on SET enable_nestloop = off AS $$
DECLARE
    average CONSTANT float8 := greatest(1, of.words::float8 / greatest(1, of.tickets));
BEGIN
    RETURN ARRAY(
      SELECT ROW(ticket, sum(part), array_agg(number))::@schema@.search_score
      FROM (SELECT found.ticket, term.number,
                   max(term.weight * found.n * 2.5::float8
                       / (found.n + 0.375::float8 + 1.125::float8 * found.length / average)) AS part
            FROM (SELECT ticket, length, word, n
                  FROM unnest(candidates) AS candidate (of_number)
                  CROSS JOIN LATERAL (SELECT * FROM @schema@.search_tickets AS one
                                      WHERE one.index_id = of.id AND one.number = of_number
                                        AND (due IS NULL OR one.ticket <> ALL (due))
                                        AND (search_scores.resolved_after IS NULL
                                             OR one.resolved_date > search_scores.resolved_after)
                                        AND NOT EXISTS (SELECT FROM unnest(filters) AS filter
                                                        WHERE NOT one.words && filter.ids)
                                      OFFSET 0) AS one
                  CROSS JOIN LATERAL unnest(one.words, one.counts) AS each (word, n)) AS found
            JOIN (SELECT number, weight, id FROM unnest(terms) AS term CROSS JOIN LATERAL unnest(ids) AS id) AS term
              ON term.id = found.word
            GROUP BY found.ticket, term.number) AS parts
      GROUP BY ticket);
END;
$$;

-- The best tickets for a question, `most` of them or more where so many have any of its words. Looks the rarest words up
-- first. Where the others could still bring better tickets than those, it looks all up among the newest tickets.
CREATE FUNCTION search_best(
    of @schema@.search_indexes, terms @schema@.search_term[], most int, due bigint[], resolved_after timestamptz,
    filters @schema@.search_filter[]) RETURNS @schema@.search_score[]
LANGUAGE plpgsql STABLE AS $$
DECLARE
    rows int := 20000;  -- of the lists of the rarest words; about as many again of the others
    scored int := 20 + 2 * most;  -- tickets whose BM25 is added up
    narrow CONSTANT int := 20000;  -- tickets that a filter finds, that are looked up before any word
    rare @schema@.search_term[];
    common @schema@.search_term[];
    narrowest @schema@.search_filter;
    among int[];
    candidates int[];
    scores @schema@.search_score[];
    least_score float8;
    first int;
BEGIN
    SELECT * INTO narrowest FROM unnest(filters) AS filter ORDER BY tickets LIMIT 1;
    IF narrowest.tickets <= narrow THEN
        among := @schema@.search_sum(ARRAY[ROW(0, true, narrowest.ids, narrowest.tickets, 1)::@schema@.search_term], 0, NULL, narrow);
        rows := 5 * rows;
    END IF;
    SELECT array_agg(term) FILTER (WHERE before <= rows), array_agg(term) FILTER (WHERE before > rows)
    INTO rare, common
    FROM (SELECT term, sum((term).tickets) OVER (ORDER BY (term).tickets / (term).weight, (term).number) AS before
          FROM unnest(terms) AS term WHERE (term).weight > 0) AS ordered;
    IF common IS NOT NULL THEN
        scored := scored + 100;
    END IF;
    IF filters <> '{}' THEN  -- some of the candidates are none
        SELECT least(10000, scored * exp(sum(ln(greatest(1, of.tickets) / least(greatest(1, tickets), of.tickets)::float8))))
        INTO scored FROM unnest(filters);
    END IF;
    candidates := CASE WHEN cardinality(among) <= scored THEN among ELSE @schema@.search_sum(rare, 0, among, scored) END;
    scores := @schema@.search_scores(of, candidates, terms, due, resolved_after, filters);
    IF common IS NOT NULL AND cardinality(among) > scored IS NOT FALSE THEN
        SELECT score INTO least_score FROM unnest(scores) ORDER BY score DESC OFFSET most - 1 LIMIT 1;
        IF least_score IS NULL OR least_score < (SELECT 1.25 * sum(weight) FROM unnest(common) AS one) THEN
            first := of.last_number - least(1, rows / (SELECT sum(tickets) FROM unnest(terms))::float8) * of.last_number;
            candidates := ARRAY(SELECT one FROM unnest(@schema@.search_sum(terms, first, among, scored)) AS one
                                WHERE one <> ALL (candidates));
            scores := scores || @schema@.search_scores(of, candidates, terms, due, resolved_after, filters);
        END IF;
    END IF;
    RETURN scores;
END;
$$;

-- What was typed of those words, the rarest first, and last those that only longer words were found by. A code without
-- its parts, unless they were typed as words too. Of a script without blanks what the pairs of characters add up to.
CREATE FUNCTION search_matched(words @schema@.search_word[], numbers int[], pieces text[], runs text[]) RETURNS text[]
LANGUAGE plpgsql STABLE SET enable_hashjoin = on SET enable_nestloop = off AS $$
BEGIN
    RETURN ARRAY(
      WITH matched AS MATERIALIZED (
        SELECT * FROM unnest(words) WITH ORDINALITY AS one (word, typed, n, id, tickets, within, number)
        JOIN unnest(numbers) AS number USING (number)
      )
      SELECT typed
      FROM (SELECT typed, tickets, number FROM matched
            WHERE NOT (length(word) = 2 AND @schema@.search_has_no_blanks(word))
              AND (number NOT IN (SELECT unnest(within) FROM matched WHERE within IS NOT NULL)
                   OR typed IN (SELECT unnest(pieces)))
            UNION ALL
            SELECT substr(piece, min(place)::int, count(*)::int + 1), min(tickets), min(number)
            FROM (SELECT piece, place, tickets, number, place - row_number() OVER (PARTITION BY piece ORDER BY place) AS run
                  FROM unnest(runs) AS piece CROSS JOIN LATERAL generate_series(1, length(piece) - 1) AS place
                  JOIN matched ON word = substr(piece, place, 2)) AS pair
            GROUP BY piece, run) AS each
      GROUP BY typed ORDER BY min(nullif(tickets, 0)) NULLS LAST, min(number));
END;
$$;
