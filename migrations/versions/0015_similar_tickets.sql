-- What `similar_answer` and `similar_tickets` share. The caller has checked what it hands over. A reader's session may
-- take backslashes in patterns as escapes; here they are none.
CREATE FUNCTION search_similar(
    for_tenant text, subject text, description text, max_results int, exclude_ticket_id text,
    resolved_after timestamptz, priority text[], tags text[],
    OUT lexemes int, OUT candidates int, OUT answers @schema@.similar_ticket[])
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, @schema@, pg_temp SET standard_conforming_strings = on
SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off SET enable_mergejoin = off SET enable_memoize = off SET work_mem = '32MB' SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    asked CONSTANT text := concat_ws(E'\n\n', subject, description);
    of @schema@.search_indexes;
    language regconfig;
    due bigint[];
    fresh @schema@.search_fresh[];
    counted record;
    words @schema@.search_word[];
    weights float8[];
    terms @schema@.search_term[];
    scores @schema@.search_score[];
    whole double precision;
    pieces text[];
    runs text[];
BEGIN
    SELECT * INTO of FROM @schema@.search_indexes WHERE tenant_id = for_tenant ORDER BY is_ready DESC LIMIT 1;
    due := @schema@.search_due_tickets(for_tenant, of);
    IF of.is_ready IS NOT TRUE THEN
        of := ROW(0, for_tenant, coalesce(of.configuration, 'pg_catalog.english'), false, '', 0, 0, 0, now(), NULL);
    END IF;
    language := @schema@.search_configuration(of.configuration);
    words := @schema@.search_question(of.id, language, asked);
    IF due <> '{}' THEN
        fresh := @schema@.search_fresh_words(for_tenant, language, due, words);
        counted := @schema@.search_count_fresh(of, due, fresh, words);
        of := counted.of_then;
        words := counted.words_then;
    END IF;
    weights := @schema@.search_weights(of, words);
    whole := @schema@.search_own_score(of, words, weights);
    terms := @schema@.search_terms(of, words, weights, fresh);
    scores := @schema@.search_best(of, terms, max_results + 1, due, resolved_after,
                                   @schema@.search_filters(of.id, resolved_after, priority, tags));
    IF due <> '{}' THEN
        scores := scores || @schema@.search_fresh_scores(of, fresh, terms);
    END IF;
    pieces := ARRAY(SELECT DISTINCT unnest(@schema@.search_pieces(asked)));
    runs := ARRAY(SELECT lower(piece) FROM unnest(pieces) AS piece
                  WHERE octet_length(piece) > length(piece) AND @schema@.search_has_no_blanks(piece));
    lexemes := cardinality(words);
    candidates := cardinality(scores);
    answers := ARRAY(
      SELECT ROW(one.ticket_id, one.display_id, split_part(one.description, E'\n\n', 1),
                 CASE WHEN position(E'\n\n' IN one.description) > 0
                      THEN substr(one.description, position(E'\n\n' IN one.description) + 2) ELSE '' END,
                 one.resolution, one.resolved_date, one.priority, one.tags, one.source,
                 scored.score, @schema@.search_matched(words, numbers, pieces, runs))::@schema@.similar_ticket AS ticket
      FROM (SELECT ticket, round(least(1, score / whole)::numeric, 12)::float8 AS score, numbers FROM unnest(scores)) AS scored
      CROSS JOIN LATERAL (SELECT * FROM @schema@.ticket_history AS one WHERE one.id = scored.ticket OFFSET 0) AS one
      WHERE one.tenant_id = for_tenant AND @schema@.search_has_text(one.resolution)
        AND one.ticket_id IS DISTINCT FROM exclude_ticket_id
        AND (search_similar.resolved_after IS NULL OR one.resolved_date > search_similar.resolved_after)
        AND (search_similar.priority IS NULL OR one.priority = ANY (search_similar.priority))
        AND (search_similar.tags IS NULL OR one.tags && search_similar.tags)
      ORDER BY scored.score DESC, one.resolved_date DESC, one.id DESC
      LIMIT max_results);
END;
$$;

-- Raises 22023 for what no question may hold, in words without a value.
CREATE FUNCTION search_check_question(
    subject text, description text, max_results int, priority text[], tags text[]) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, @schema@, pg_temp AS $$
BEGIN
    IF btrim(coalesce(subject, '') || coalesce(description, ''), E' \t\n\r') = '' THEN
        RAISE invalid_parameter_value USING MESSAGE = 'subject or description must have text';
    ELSIF length(subject) > 1000 THEN
        RAISE invalid_parameter_value USING MESSAGE = 'subject must have at most 1000 characters';
    ELSIF length(description) > 10000 THEN
        RAISE invalid_parameter_value USING MESSAGE = 'description must have at most 10000 characters';
    ELSIF (max_results BETWEEN 1 AND 50) IS NOT TRUE THEN
        RAISE invalid_parameter_value USING MESSAGE = 'max_results must be from 1 to 50';
    ELSIF cardinality(priority) = 0 OR cardinality(tags) = 0
            OR EXISTS (SELECT FROM unnest(priority) AS one WHERE one IS NULL)
            OR EXISTS (SELECT FROM unnest(tags) AS one WHERE one IS NULL) THEN
        RAISE invalid_parameter_value USING MESSAGE = 'priority and tags must name at least one value each and no null, or be left out';
    END IF;
END;
$$;

-- For the server's role alone: it names the tenant.
CREATE FUNCTION similar_answer(
    for_tenant text, subject text, description text, max_results int, exclude_ticket_id text,
    resolved_after timestamptz, priority text[], tags text[],
    OUT lexemes int, OUT candidates int, OUT tickets json)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, @schema@, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    answers @schema@.similar_ticket[];
BEGIN
    PERFORM @schema@.search_check_question(subject, description, max_results, priority, tags);
    SELECT one.lexemes, one.candidates, one.answers INTO lexemes, candidates, answers
    FROM @schema@.search_similar(for_tenant, subject, description, max_results, exclude_ticket_id, resolved_after,
                                 priority, tags) AS one;
    tickets := array_to_json(answers);
END;
$$;

-- For readers' roles: of the tenant that the role was given by `ticket-inbox roles reader`.
CREATE FUNCTION similar_tickets(
    subject text DEFAULT NULL, description text DEFAULT NULL, max_results int DEFAULT 5,
    exclude_ticket_id text DEFAULT NULL, resolved_after timestamptz DEFAULT NULL, priority text[] DEFAULT NULL,
    tags text[] DEFAULT NULL) RETURNS SETOF similar_ticket
LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 5 SET search_path = pg_catalog, @schema@, pg_temp AS $$
DECLARE
    -- Inside, current_user is the owner; behind a pooler, session_user is the pooler's.
    caller CONSTANT name := CASE current_setting('role') WHEN 'none' THEN session_user
                            ELSE current_setting('role') END;
    tenant text;
BEGIN
    -- Who gives a reader another tenant, or none, needs a lock that this one keeps away; so what Postgres knows of rights
    -- is true until the end. An older snapshot, as REPEATABLE READ has it, still shows the policy of before.
    PERFORM FROM @schema@.ticket_history LIMIT 0;
    -- By the oid in the role's policy, as row-level security does: a dump that is restored elsewhere keeps it right.
    SELECT tenant_id INTO tenant
    FROM pg_policy JOIN pg_depend ON classid = 'pg_policy'::regclass AND objid = pg_policy.oid
      AND refclassid = 'pg_proc'::regclass
    JOIN pg_proc ON pg_proc.oid = refobjid AND pronamespace = '@schema@'::regnamespace
    JOIN @schema@.tenant_readers ON proname = 'reader_tenant_' || tenant_readers.id
    WHERE polrelid = '@schema@.ticket_history'::regclass
      AND polroles = ARRAY[(SELECT oid FROM pg_roles WHERE rolname = caller)]
      AND has_function_privilege(polroles[1], pg_proc.oid, 'EXECUTE');
    IF tenant IS NULL THEN
        RAISE insufficient_privilege USING
            MESSAGE = 'this role reads no tenant''s tickets', HINT = '`ticket-inbox roles reader` gives it a tenant.';
    END IF;
    PERFORM @schema@.search_check_question(subject, description, max_results, priority, tags);
    RETURN QUERY SELECT ticket.*
    FROM @schema@.search_similar(tenant, subject, description, max_results, exclude_ticket_id, resolved_after,
                                 priority, tags) AS one, unnest(one.answers) AS ticket;
END;
$$;
