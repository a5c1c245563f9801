-- Every writer of ticket_history counts, whatever its rights: these functions run as the owner.
CREATE FUNCTION search_note_due() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, @schema@, pg_temp AS $$
BEGIN
    INSERT INTO @schema@.search_due (tenant_id, tickets)
    SELECT tenant_id, array_agg(id) FROM written GROUP BY tenant_id, id / 500;
    RETURN NULL;
END;
$$;

-- A ticket that is moved to another tenant leaves the words of the one before.
CREATE FUNCTION search_note_moved() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, @schema@, pg_temp AS $$
BEGIN
    INSERT INTO @schema@.search_due (tenant_id, tickets) VALUES (OLD.tenant_id, ARRAY[OLD.id]);
    RETURN NULL;
END;
$$;

-- Each tenant gets an index without tickets, of the language that was asked for last.
CREATE FUNCTION search_note_truncated() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, @schema@, pg_temp AS $$
DECLARE
    tenants CONSTANT text[] := ARRAY(SELECT tenant_id FROM @schema@.search_indexes
                                     WHERE tenant_id IS NOT NULL ORDER BY tenant_id, is_ready DESC, id);
    languages CONSTANT text[] := ARRAY(SELECT configuration FROM @schema@.search_indexes
                                       WHERE tenant_id IS NOT NULL ORDER BY tenant_id, is_ready DESC, id);
BEGIN
    UPDATE @schema@.search_indexes SET tenant_id = NULL WHERE tenant_id IS NOT NULL;
    INSERT INTO @schema@.search_indexes (tenant_id, configuration, is_ready, ready_at)
    SELECT DISTINCT ON (tenant_id) tenant_id, language, true, now()
    FROM unnest(tenants, languages) WITH ORDINALITY AS each (tenant_id, language, place)
    ORDER BY tenant_id, place DESC;
    RETURN NULL;
END;
$$;

CREATE TRIGGER search_inserted AFTER INSERT ON ticket_history REFERENCING NEW TABLE AS written
    FOR EACH STATEMENT EXECUTE FUNCTION search_note_due();
CREATE TRIGGER search_updated AFTER UPDATE ON ticket_history REFERENCING NEW TABLE AS written
    FOR EACH STATEMENT EXECUTE FUNCTION search_note_due();
CREATE TRIGGER search_deleted AFTER DELETE ON ticket_history REFERENCING OLD TABLE AS written
    FOR EACH STATEMENT EXECUTE FUNCTION search_note_due();
CREATE TRIGGER search_moved AFTER UPDATE OF tenant_id ON ticket_history
    FOR EACH ROW WHEN (OLD.tenant_id <> NEW.tenant_id) EXECUTE FUNCTION search_note_moved();
CREATE TRIGGER search_truncated AFTER TRUNCATE ON ticket_history
    FOR EACH STATEMENT EXECUTE FUNCTION search_note_truncated();
