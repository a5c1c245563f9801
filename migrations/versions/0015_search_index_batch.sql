-- Brings about `most` tickets into the indexes: those that were written since, then those of indexes that are not
-- ready, then it deletes from indexes that another one replaced. Each has the room that the one before leaves: while
-- tickets come without a pause, some are always due. Returns how many rows it dealt with; 0 if nothing is left to do.
-- For the worker's role: it says nothing of any ticket.
CREATE FUNCTION search_index_batch(most int) RETURNS int
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, @schema@, pg_temp SET standard_conforming_strings = on
SET jit = off AS $$
DECLARE
    done int;
BEGIN
    IF (most BETWEEN 1 AND 10000) IS NOT TRUE THEN  -- by none at all, an index would be ready with nothing in it
        RAISE invalid_parameter_value USING MESSAGE = 'most must be from 1 to 10000';
    END IF;
    done := @schema@.search_index_due(most);
    IF done < most THEN
        PERFORM @schema@.search_add_indexes();
        done := done + @schema@.search_fill_next(most - done);
    END IF;
    IF done < most THEN
        done := done + @schema@.search_delete_replaced(most - done);
    END IF;
    RETURN done;
END;
$$;

-- Each tenant has an index, of english, until `ticket-inbox tenant language` says otherwise.
CREATE FUNCTION search_add_indexes() RETURNS void LANGUAGE sql AS $$
    INSERT INTO @schema@.search_indexes (tenant_id, configuration)
    SELECT tenant_id, 'pg_catalog.english' FROM @schema@.tenant_configs
    WHERE tenant_id NOT IN (SELECT tenant_id FROM @schema@.search_indexes WHERE tenant_id IS NOT NULL)
      AND tenant_id NOT IN (SELECT tenant_id FROM @schema@.tenant_removals)
    ON CONFLICT DO NOTHING
$$;

-- Tickets that were written since. They are read after their rows in search_due are gone, so that what is written
-- meanwhile is due again.
CREATE FUNCTION search_index_due(most int) RETURNS int
LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    due bigint[];
    tenants text[];
    rows int;
    indexed int;
    written bigint[];
BEGIN
    SELECT array_agg(id), array_agg(DISTINCT tenant_id), max(before + count) INTO due, tenants, rows
    FROM (SELECT id, tenant_id, cardinality(tickets) AS count,
                 sum(cardinality(tickets)) OVER (ORDER BY id) - cardinality(tickets) AS before
          FROM (SELECT id, tenant_id, tickets FROM @schema@.search_due ORDER BY id LIMIT most) AS oldest) AS counted
    WHERE before < most;
    IF due IS NULL THEN
        RETURN 0;
    END IF;
    PERFORM FROM @schema@.search_indexes WHERE tenant_id = ANY (tenants) ORDER BY id FOR NO KEY UPDATE;
    FOR indexed, written IN
        WITH taken AS (DELETE FROM @schema@.search_due WHERE id = ANY (due) RETURNING tenant_id, tickets)
        SELECT one.id, array_agg(ticket)
        FROM taken JOIN @schema@.search_indexes AS one USING (tenant_id) CROSS JOIN LATERAL unnest(taken.tickets) AS ticket
        GROUP BY one.id ORDER BY one.id
    LOOP
        PERFORM @schema@.search_write(indexed, written);
    END LOOP;
    RETURN rows;
END;
$$;

-- Goes on filling an index that is not ready, by the tickets' ids; once all are in it, it replaces the one before.
CREATE FUNCTION search_fill_next(most int) RETURNS int
LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    filled @schema@.search_indexes;
    tickets bigint[];
    reached text;
BEGIN
    SELECT * INTO filled FROM @schema@.search_indexes
    WHERE tenant_id IS NOT NULL AND NOT is_ready ORDER BY id LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED;
    IF filled.id IS NULL THEN
        RETURN 0;
    END IF;
    SELECT array_agg(id ORDER BY id), max(ticket_id) INTO tickets, reached
    FROM (SELECT id, ticket_id FROM @schema@.ticket_history
          WHERE tenant_id = filled.tenant_id AND ticket_id > filled.position ORDER BY ticket_id LIMIT most) AS next;
    IF tickets IS NOT NULL THEN
        PERFORM @schema@.search_write(filled.id, tickets);
    END IF;
    IF cardinality(tickets) = most THEN
        UPDATE @schema@.search_indexes SET position = reached WHERE id = filled.id;
    ELSE
        UPDATE @schema@.search_indexes SET tenant_id = NULL, is_ready = false
        WHERE tenant_id = filled.tenant_id AND is_ready;
        UPDATE @schema@.search_indexes SET is_ready = true, position = '', ready_at = now() WHERE id = filled.id;
    END IF;
    RETURN 1 + coalesce(cardinality(tickets), 0);
END;
$$;

-- Deletes from an index that another one replaced, or whose tenant is gone.
CREATE FUNCTION search_delete_replaced(most int) RETURNS int
LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    replaced int;
    rows int;
BEGIN
    SELECT id INTO replaced FROM @schema@.search_indexes
    WHERE tenant_id IS NULL ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED;
    IF replaced IS NULL THEN
        RETURN 0;
    END IF;
    WITH gone AS (
      DELETE FROM @schema@.search_words
      WHERE ctid = ANY (ARRAY(SELECT ctid FROM @schema@.search_words WHERE index_id = replaced LIMIT most))
      RETURNING id
    ), lists AS (
      DELETE FROM @schema@.search_postings WHERE word = ANY (ARRAY(SELECT id FROM gone))
    ), tickets AS (
      DELETE FROM @schema@.search_tickets
      WHERE ctid = ANY (ARRAY(SELECT ctid FROM @schema@.search_tickets WHERE index_id = replaced LIMIT most))
      RETURNING 1
    )
    SELECT (SELECT count(*) FROM gone) + (SELECT count(*) FROM tickets) INTO rows;
    IF rows = 0 THEN
        DELETE FROM @schema@.search_indexes WHERE id = replaced;
    END IF;
    RETURN 1 + rows;
END;
$$;
