-- A small tenant's tickets count from the moment in which they are written: those whose words are not in the index yet
-- are taken apart at the question. A larger one's, or more than some hundreds of them or long ones, count once a worker
-- was there.

-- The tickets of a tenant that are due; null where they do not count yet. Where more of them wait than the index has,
-- what it would answer is no answer: it was made for an empty tenant, say, and thousands were imported.
CREATE FUNCTION search_due_tickets(for_tenant text, of @schema@.search_indexes) RETURNS bigint[]
LANGUAGE plpgsql STABLE AS $$
DECLARE
    small CONSTANT int := 5000;
    most CONSTANT int := 500;
    longest CONSTANT int := 300000;  -- bytes of their texts: a second's work, if these are full of codes
    due bigint[];
BEGIN
    IF of.is_ready AND of.tickets > small THEN
        RETURN NULL;
    ELSIF of.is_ready THEN
        due := ARRAY(SELECT unnest(tickets) FROM @schema@.search_due WHERE tenant_id = for_tenant
                     LIMIT greatest(most, of.tickets) + 1);
    ELSE
        due := ARRAY(SELECT id FROM @schema@.ticket_history WHERE tenant_id = for_tenant ORDER BY ticket_id LIMIT most + 1);
    END IF;
    due := ARRAY(SELECT DISTINCT unnest(due));
    IF cardinality(due) <= most AND (SELECT coalesce(sum(octet_length(description)), 0) FROM unnest(due) AS due_id
                                     CROSS JOIN LATERAL (SELECT description FROM @schema@.ticket_history AS one
                                                         WHERE one.id = due_id OFFSET 0) AS one) <= longest THEN
        RETURN due;
    ELSIF of.is_ready AND cardinality(due) <= of.tickets THEN
        RETURN NULL;
    END IF;
    RAISE object_not_in_prerequisite_state USING MESSAGE = 'the words of the tenant''s tickets are not built yet',
        HINT = 'A worker builds them: try again later.';
END;
$$;

-- The question's words in those of these tickets that are answers.
CREATE FUNCTION search_fresh_words(
    for_tenant text, configuration regconfig, due bigint[], words @schema@.search_word[]) RETURNS @schema@.search_fresh[]
LANGUAGE plpgsql STABLE SET enable_hashjoin = on SET enable_nestloop = off AS $$
BEGIN
    RETURN ARRAY(
      WITH piece AS MATERIALIZED (
        SELECT one.id AS ticket, piece
        FROM unnest(due) AS due_id
        CROSS JOIN LATERAL (SELECT id, description FROM @schema@.ticket_history AS one
                            WHERE id = due_id AND tenant_id = for_tenant AND @schema@.search_has_text(resolution)
                            OFFSET 0) AS one
        CROSS JOIN LATERAL unnest(@schema@.search_pieces(description)) AS piece
      ), taken_apart AS MATERIALIZED (
        SELECT piece, each AS word FROM (SELECT DISTINCT piece FROM piece) AS one
        CROSS JOIN LATERAL @schema@.search_words_of(configuration, piece) AS made
        CROSS JOIN LATERAL unnest(made.words) AS each
      ), each AS MATERIALIZED (
        SELECT ticket, word, count(*) AS n FROM piece JOIN taken_apart USING (piece) GROUP BY ticket, word
      ), asked AS MATERIALIZED (
        SELECT word, number FROM unnest(words) WITH ORDINALITY AS asked (word, typed, n, id, tickets, within, number)
      ), known AS MATERIALIZED (
        SELECT asked.word, number, true AS is_whole FROM asked
        UNION ALL
        SELECT longer.word, number, false
        FROM asked JOIN (SELECT DISTINCT word FROM each) AS longer
          ON left(longer.word, 2) = left(asked.word, 2)
          AND starts_with(longer.word, asked.word) AND longer.word <> asked.word
        WHERE @schema@.search_finds_longer(asked.word)
      ), sums AS MATERIALIZED (
        SELECT ticket, coalesce(sum(n) FILTER (WHERE @schema@.search_is_counted(word)), 0) AS length
        FROM (SELECT DISTINCT ticket FROM piece) AS one LEFT JOIN each USING (ticket) GROUP BY ticket
      )
      SELECT ROW(ticket, length, number, n, is_whole)::@schema@.search_fresh
      FROM sums LEFT JOIN (SELECT ticket, number, n, is_whole FROM each JOIN known USING (word)) AS found USING (ticket));
END;
$$;

-- The index as if what was written had been in it.
CREATE FUNCTION search_count_fresh(
    of @schema@.search_indexes, due bigint[], fresh @schema@.search_fresh[], words @schema@.search_word[],
    OUT of_then @schema@.search_indexes, OUT words_then @schema@.search_word[])
LANGUAGE plpgsql STABLE SET enable_hashjoin = on SET enable_nestloop = off AS $$
DECLARE
    stale @schema@.search_tickets[] := ARRAY(
        SELECT old FROM unnest(due) AS due_id
        CROSS JOIN LATERAL (SELECT one AS old FROM @schema@.search_tickets AS one
                            WHERE one.index_id = of.id AND one.ticket = due_id OFFSET 0) AS found);
BEGIN
    of_then := of;
    of_then.tickets := of.tickets - cardinality(stale) + (SELECT count(DISTINCT ticket) FROM unnest(fresh));
    of_then.words := of.words - (SELECT coalesce(sum(length), 0) FROM unnest(stale))
        + (SELECT coalesce(sum(length), 0) FROM (SELECT DISTINCT ticket, length FROM unnest(fresh)) AS one);
    words_then := ARRAY(
      SELECT ROW(word, typed, n, id, tickets - coalesce(less, 0) + coalesce(more, 0), within)::@schema@.search_word
      FROM unnest(words) WITH ORDINALITY AS asked (word, typed, n, id, tickets, within, number)
      LEFT JOIN (SELECT id, count(*) AS less FROM unnest(stale) AS one CROSS JOIN LATERAL unnest(one.words) AS id
                 GROUP BY id) AS gone USING (id)
      LEFT JOIN (SELECT number, count(*) AS more FROM unnest(fresh) WHERE is_whole GROUP BY number) AS new USING (number)
      ORDER BY number);
END;
$$;

-- BM25 of those tickets.
CREATE FUNCTION search_fresh_scores(
    of @schema@.search_indexes, fresh @schema@.search_fresh[], terms @schema@.search_term[]) RETURNS @schema@.search_score[]
LANGUAGE plpgsql STABLE SET enable_hashjoin = on SET enable_nestloop = off AS $$
DECLARE
    average CONSTANT float8 := greatest(1, of.words::float8 / greatest(1, of.tickets));
BEGIN
    RETURN ARRAY(
      SELECT ROW(ticket, sum(part), array_agg(number))::@schema@.search_score
      FROM (SELECT ticket, number,
                   max(weight * n * 2.5::float8 / (n + 0.375::float8 + 1.125::float8 * length / average)) AS part
            FROM unnest(fresh) AS fresh (ticket, length, number, n, is_whole)
            JOIN unnest(terms) AS term (number, is_whole, ids, tickets, weight) USING (number, is_whole)
            GROUP BY ticket, number) AS parts
      GROUP BY ticket);
END;
$$;
