-- The word index of tenants' tickets: docs/decisions/0047. Nobody but the owner reads or writes its words.

-- A tenant has one that is ready, and answers; and one that is being filled, if its language has changed. One without a
-- tenant was replaced, and is deleted in batches.
CREATE TABLE search_indexes (
    id integer GENERATED ALWAYS AS IDENTITY CONSTRAINT search_indexes_pkey PRIMARY KEY,
    tenant_id text CONSTRAINT search_indexes_tenant_id_fkey REFERENCES tenant_configs ON DELETE SET NULL,
    configuration text NOT NULL,
    is_ready boolean NOT NULL DEFAULT false,
    position text NOT NULL DEFAULT '',
    last_number integer NOT NULL DEFAULT 0,
    tickets integer NOT NULL DEFAULT 0,
    words bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    ready_at timestamptz
);
CREATE UNIQUE INDEX search_indexes_tenant_id_is_ready_idx ON search_indexes (tenant_id, is_ready);

-- The words of a ticket that is an answer, by id, and how often each is in it; 0 for what filters find it by. Tickets
-- are numbered in the order in which they come in. (A foreign key to search_indexes would have a million tickets deleted
-- in one statement; that of a word would take longer to check than the word to write.)
CREATE TABLE search_tickets (
    index_id integer NOT NULL,
    number integer NOT NULL,
    ticket bigint NOT NULL,
    words integer[] NOT NULL,
    counts smallint[] NOT NULL,
    length integer NOT NULL,
    resolved_date timestamptz NOT NULL,
    made_of bigint NOT NULL,
    CONSTRAINT search_tickets_pkey PRIMARY KEY (index_id, number)
);
CREATE UNIQUE INDEX search_tickets_index_id_ticket_idx ON search_tickets (index_id, ticket);

-- A word of one index, and in how many of its tickets it is; the numbers of the last of these, ascending, and for each
-- its impact: what the word adds to that ticket's score, in thousandths of its weight.
CREATE TABLE search_words (
    index_id integer NOT NULL,
    word text COLLATE "C" NOT NULL,
    id integer GENERATED ALWAYS AS IDENTITY,
    tickets integer NOT NULL,
    numbers integer[] NOT NULL,
    impacts smallint[] NOT NULL,
    CONSTRAINT search_words_pkey PRIMARY KEY (index_id, word)
) WITH (fillfactor = 70);
CREATE UNIQUE INDEX search_words_id_idx ON search_words (id);

-- The numbers before those, some hundreds in a row, up to the number `last`.
CREATE TABLE search_postings (
    word integer NOT NULL,
    last integer NOT NULL,
    numbers integer[] NOT NULL,
    impacts smallint[] NOT NULL,
    CONSTRAINT search_postings_pkey PRIMARY KEY (word, last)
);

-- Tickets that were written since their words were made, some hundreds in a row.
CREATE TABLE search_due (
    id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT search_due_pkey PRIMARY KEY,
    tenant_id text NOT NULL,
    tickets bigint[] NOT NULL,
    noted_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX search_due_tenant_id_idx ON search_due (tenant_id, id);

-- The planner prints to every login what it has collected of a column.
DO $do$
DECLARE
    found record;
BEGIN
    FOR found IN SELECT attrelid::regclass AS relation, attname FROM pg_attribute
                 WHERE attrelid = ANY (ARRAY['search_indexes', 'search_words', 'search_postings', 'search_tickets',
                                             'search_due']::regclass[])
                   AND attnum > 0 AND NOT attisdropped AND coalesce(attstattarget, -1) <> 0 LOOP
        EXECUTE format('ALTER TABLE %s ALTER COLUMN %I SET STATISTICS 0', found.relation, found.attname);
    END LOOP;
END;
$do$;

CREATE TYPE similar_ticket AS (
    ticket_id text,
    display_id text,
    subject text,
    description text,
    resolution text,
    resolved_date timestamptz,
    priority text,
    tags text[],
    source text,
    score double precision,
    matched text[]
);
