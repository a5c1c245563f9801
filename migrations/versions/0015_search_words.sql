-- Which words is a text found by? The same functions say so of tickets and of questions.

-- A resolution that says something: db/ticket_history.py has the same list of what does not.
CREATE FUNCTION search_has_text(given text) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
    blank CONSTANT text := E'\t\n\v\f\r\x1c\x1d\x1e\x1f \u0085\u00a0\u1680\u2028\u2029\u202f\u205f\u3000\u2000\u2001'
        '\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u200b\u200c\u200d\u200e\u200f\u00ad\u2060\ufeff';
BEGIN
    RETURN btrim(left(given, 50), blank) <> '' OR btrim(given, blank) <> '';
END;
$$;

-- The pieces of a text between blanks and signs, as they stand, without the dots and dashes around them. A sign within
-- a code is kept: 9.1.4, ora-00942, vpn_gw_01. A script without blanks is a piece of its own. Which characters are
-- signs is said by their numbers: what a class such as [[:alnum:]] holds depends on the database's locale.
CREATE FUNCTION search_pieces(given text) RETURNS text[]
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
    longest CONSTANT int := 100000;  -- characters of a text that are looked at
    signs CONSTANT text := '[\x01-,/:-@\[-^`{-\u00a9\u00ab-\u00b4\u00b6-\u00b9\u00bb-\u00bf\u00d7\u00f7\u02bc\u02c2-\u02c5'
        '\u037e\u0387\u055a-\u055f\u0589\u058a\u05be\u05c0\u05c3\u05f3\u05f4\u060c\u061b\u061f\u066a-\u066d\u06d4\u0964'
        '\u0965\u0e4f\u0e5a\u0e5b\u104a-\u104f\u1680\u17d4-\u17da\u1800-\u180a\u2000-\u206f\u20a0-\u20cf\u20e0-\u20f0'
        '\u2100-\u2bff\u2e00-\u2e7f\u3000-\u3004\u3008-\u3020\u3030\u303d\u30a0\u30fb\ue000-\uf8ff\ufd3e\ufd3f'
        '\ufe00-\ufe6f\uff00-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65\uffe0-\uffff\U0001f000-\U0001faff'
        '\U000e0000-\U0010ffff]+';
    -- Without width, or drawn to fill an Arabic line: within a word they are no part of it.
    hidden CONSTANT text := '[\u00ad\u0640\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufe00-\ufe0f\ufeff]+';
    -- Of these signs NFKC would make letters, or an accent that the next word begins with: ™ ℠ № ¨ ¯ ´ ¸ ˘ ˙ ˚ ˛ ˜ ˝ ΄
    letters CONSTANT text := '[\u2122\u2120\u2116\u00a8\u00af\u00b4\u00b8\u02d8-\u02dd\u0384]';
    without_blanks CONSTANT text := '([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005\u3007\u3040-\u30ff\u31f0-\u31ff'
        '\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af]{1,100})';
    plain text := left(given, longest);
BEGIN
    IF position('%' IN plain) > 0 THEN  -- a blank or sign as addresses have it: Annual%20Report
        plain := regexp_replace(plain, '%(?:2[0-9a-f]|3[a-f]|[57][b-f])', ' ', 'gi');
    END IF;
    IF octet_length(plain) > length(plain) THEN
        plain := regexp_replace(regexp_replace(plain, hidden, '', 'g'), letters, ' ', 'g');
        plain := translate(plain, E'\u2010\u2011\u2212', '---');
        -- NFKC takes a letter of Thai and one of Lao apart; they are shown as typed.
        plain := replace(replace(normalize(plain, NFKC), E'\u0e4d\u0e32', E'\u0e33'), E'\u0ecd\u0eb2', E'\u0eb3');
        plain := regexp_replace(plain, without_blanks, ' \1 ', 'g');
    END IF;
    RETURN regexp_split_to_array(plain, signs);
END;
$$;

-- Whether a piece is of a script without blanks between words.
CREATE FUNCTION search_has_no_blanks(piece text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT piece ~ '^[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u30ff\u31f0-\u31ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U000323af]'
$$;

-- Whether a word also finds longer ones that begin with it. In Korean, particles follow words of two syllables or more.
CREATE FUNCTION search_finds_longer(word text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT length(word) >= 4 OR word ~ '^[\uac00-\ud7a3]{2}' $$;

-- The parts that a code in lower case is found by: itself, and what people type of it.
CREATE FUNCTION search_parts(code text) RETURNS text[]
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
    longest CONSTANT int := 100;  -- characters of a code; of a longer one the parts alone count
    version CONSTANT text := '[0-9]+(?:\.[0-9]+)+';
    -- 0xc0000005 by c0000005, and by 0000005 as that is; kb5001330 by 5001330
    forms CONSTANT text[] := ARRAY['^0x([0-9a-f]+)$', '^[^0-9]+([0-9]{3,})$'];
    parts text[] := '{}';
    part text;
    form text;
    found text[];
BEGIN
    IF code !~ '[._-]' AND code !~ forms[1] AND code !~ forms[2] THEN
        RETURN ARRAY[code];  -- most codes
    ELSIF length(code) <= longest THEN
        parts := parts || code;
    END IF;
    IF code ~ '[.]' AND length(code) <= longest THEN
        -- hosts and files: db-07.corp.example by db-07
        FOREACH part IN ARRAY string_to_array(code, '.') LOOP
            CONTINUE WHEN part !~ '[^_-][_-]+[^_-]';
            parts := parts || btrim(part, '_-');
        END LOOP;
        -- versions: v9.1.4.20310 by 9.1.4.20310, 9.1.4, 9.1 and 20310; their other numbers tell little alone
        FOR found IN SELECT regexp_matches(code, version, 'g') LOOP
            parts := parts || array_remove(found, code)
                || ARRAY(SELECT long[1] FROM regexp_matches(found[1], '[0-9]{4,}', 'g') AS long);
            WHILE found[1] ~ '\..*\.' LOOP
                found[1] := regexp_replace(found[1], '\.[0-9]+$', '');
                parts := parts || found;
            END LOOP;
        END LOOP;
    END IF;
    FOREACH part IN ARRAY regexp_split_to_array(regexp_replace(code, version, '.', 'g'), '[._-]+') LOOP
        CONTINUE WHEN part = '' OR length(part) = 1 AND part <> code;
        parts := parts || part;
        FOREACH form IN ARRAY forms LOOP
            found := regexp_match(part, form);
            CONTINUE WHEN found IS NULL;
            part := found[1];
            parts := parts || part;
        END LOOP;
    END LOOP;
    RETURN parts;
END;
$$;

-- The words that a piece is found by, and the part of it, as it was typed, that each stands for. Plain words are lexemes
-- of the configuration, which drops stop words; codes stay as they are; scripts without blanks are pairs of characters.
CREATE FUNCTION search_words_of(configuration regconfig, piece text, OUT parts text[], OUT words text[])
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    longest CONSTANT int := 100;  -- characters of a word
    plain text := lower(translate(left(piece, longest), E'\u0130', 'i') COLLATE @lower@);
    part text;
BEGIN
    IF plain ~ '[0-9._-]' THEN
        plain := lower(translate(left(piece, 1000), E'\u0130', 'i') COLLATE @lower@);
        parts := '{}';
        words := '{}';
        FOREACH part IN ARRAY @schema@.search_parts(btrim(plain, '._-')) LOOP
            part := left(part, longest);
            words := words || CASE WHEN part ~ '[0-9._-]' THEN ARRAY[part]
                              ELSE tsvector_to_array(to_tsvector(configuration, part)) END;
            parts := parts || array_fill(substr(piece, position(part IN plain), length(part)),
                                         ARRAY[cardinality(words) - cardinality(parts)]);
        END LOOP;
    ELSIF octet_length(plain) > length(plain) AND @schema@.search_has_no_blanks(plain) THEN
        parts := ARRAY(SELECT pair FROM (SELECT one || lead(one) OVER (ORDER BY place) AS pair
                                         FROM string_to_table(plain, NULL) WITH ORDINALITY AS one (one, place)) AS pairs
                       WHERE pair IS NOT NULL);
        parts := CASE WHEN parts = '{}' THEN ARRAY[plain] ELSE parts END;
        words := parts;
    ELSE
        words := tsvector_to_array(to_tsvector(configuration, plain));
        parts := array_fill(piece, ARRAY[cardinality(words)]);
    END IF;
END;
$$;

-- Whether a word counts for the length of a text. A code does by its parts.
CREATE FUNCTION search_is_counted(word text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT word !~ '[._-]' $$;
