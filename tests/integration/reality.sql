-- What real databases hold. Every object here has once broken a backup tool.
CREATE ROLE shop_owner NOLOGIN;
CREATE ROLE shop_app LOGIN CONNECTION LIMIT 20;
CREATE ROLE "Auditoria Ção" NOLOGIN;
GRANT "Auditoria Ção" TO shop_app;
ALTER ROLE shop_app SET statement_timeout = '30s';

CREATE SCHEMA pharmacy AUTHORIZATION shop_owner;
CREATE SCHEMA archive;
CREATE SCHEMA "Filial São João";
GRANT USAGE ON SCHEMA pharmacy TO shop_app;
CREATE EXTENSION pg_trgm WITH SCHEMA archive;
CREATE EXTENSION hstore;

CREATE TYPE pharmacy.status AS ENUM ('aberta', 'paga', 'cancelada');
CREATE DOMAIN pharmacy.money AS numeric(14, 2) NOT NULL DEFAULT 0 CHECK (VALUE >= 0);
CREATE DOMAIN pharmacy.cpf AS text CHECK (VALUE ~ '^[0-9]{11}$');
CREATE TYPE pharmacy.address AS (street text, number integer, city varchar(60));
CREATE TYPE pharmacy.shift AS RANGE (subtype = time);

-- Two schemas with the same table name, generated and identity columns.
CREATE TABLE pharmacy.sales (
    id bigint GENERATED ALWAYS AS IDENTITY (START WITH 100 INCREMENT BY 3) PRIMARY KEY,
    status pharmacy.status NOT NULL DEFAULT 'aberta',
    kind varchar(20) NOT NULL DEFAULT 'balcao' CHECK (kind IN ('balcao', 'entrega')),
    total pharmacy.money,
    tax numeric(14, 2) GENERATED ALWAYS AS (total * 0.18) STORED,
    customer pharmacy.cpf,
    code char(8),
    note text COLLATE "C",
    sold_at timestamptz NOT NULL DEFAULT '2026-01-01 00:00:00+00',
    valid daterange,
    ship pharmacy.address,
    tags text[],
    extra hstore,
    touched integer NOT NULL DEFAULT 0
);
ALTER TABLE pharmacy.sales OWNER TO shop_owner;
GRANT SELECT, INSERT, UPDATE ON pharmacy.sales TO shop_app;
GRANT SELECT (id, status), UPDATE (note) ON pharmacy.sales TO "Auditoria Ção" WITH GRANT OPTION;
COMMENT ON TABLE pharmacy.sales IS 'Vendas; comentário com "aspas" e ''apóstrofo''';
COMMENT ON COLUMN pharmacy.sales.note IS 'livre';
CREATE INDEX "Índice Notas" ON pharmacy.sales USING gin (note archive.gin_trgm_ops);
CREATE UNIQUE INDEX sales_open ON pharmacy.sales (customer) WHERE status = 'aberta';
CREATE STATISTICS pharmacy.sales_stats ON status, kind FROM pharmacy.sales;
CREATE TABLE archive.sales (id bigint PRIMARY KEY, total numeric);
INSERT INTO archive.sales SELECT i, i / 3.0 FROM generate_series(1, 1000) i;

-- A column that a trigger keeps.
CREATE FUNCTION pharmacy.touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN NEW.touched := OLD.touched + 1; RETURN NEW; END $$;
CREATE TRIGGER touch BEFORE UPDATE ON pharmacy.sales FOR EACH ROW EXECUTE FUNCTION pharmacy.touch();
INSERT INTO pharmacy.sales (total, customer, code, note, sold_at, valid, ship, tags, extra)
SELECT i / 7.0, lpad(i::text, 11, '0'), 'c' || i, CASE WHEN i % 5 = 0 THEN NULL WHEN i % 5 = 1 THEN '' ELSE 'nota ' || i END,
       '2026-01-01 00:00:00+00'::timestamptz + i * interval '7 min', daterange('2026-01-01', '2026-01-01'::date + i),
       ROW('Rua "A", nº ' || i, i, 'Curitiba')::pharmacy.address, ARRAY['a', NULL, 'c d', '"e"', ''],
       hstore(ARRAY['k', i::text, 'vazio', NULL])
FROM generate_series(1, 3000) i;
UPDATE pharmacy.sales SET status = 'paga' WHERE id % 2 = 0;
ALTER TABLE pharmacy.sales DROP COLUMN extra;
ALTER TABLE pharmacy.sales ADD COLUMN later integer DEFAULT 42;

-- Partitions, two levels, one attached later with another order of columns.
CREATE TABLE pharmacy.events (id bigint, at date NOT NULL, body jsonb, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE pharmacy.events_2025 PARTITION OF pharmacy.events FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE pharmacy.events_2026 PARTITION OF pharmacy.events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01') PARTITION BY HASH (id);
CREATE TABLE pharmacy.events_2026_0 PARTITION OF pharmacy.events_2026 FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE pharmacy.events_2026_1 PARTITION OF pharmacy.events_2026 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE pharmacy.events_rest (body jsonb, at date NOT NULL, id bigint NOT NULL);
ALTER TABLE pharmacy.events ATTACH PARTITION pharmacy.events_rest DEFAULT;
CREATE INDEX ON pharmacy.events (at);
INSERT INTO pharmacy.events SELECT i, '2025-06-01'::date + i, jsonb_build_object('n', i, 'f', i / 3.0, 'z', NULL) FROM generate_series(1, 900) i;
ALTER TABLE pharmacy.events ADD FOREIGN KEY (id) REFERENCES archive.sales (id);

-- Inheritance.
CREATE TABLE archive.person (id integer, name text);
CREATE TABLE archive.employee (salary numeric) INHERITS (archive.person);
INSERT INTO archive.person SELECT i, 'p' || i FROM generate_series(1, 10) i;
INSERT INTO archive.employee SELECT i, 'e' || i, i * 1.10 FROM generate_series(11, 30) i;

-- Every awkward type, mixed-case and unicode names, reserved words, a column called t.
CREATE TABLE "Filial São João"."Preços ""de"" Venda" (
    "select" integer, t text, "Preço R$" numeric, f4 real, f8 double precision, j json, jb jsonb, x xml, v tsvector, q tsquery,
    p point, b box, c circle, raw bytea, i interval, ts timestamp, d date, tz timetz, u uuid, ip inet, net cidr, mac macaddr,
    bits bit(5), vb bit varying, m money, r int4range, mr nummultirange, a integer[][], ad pharmacy.money[], comp pharmacy.address[],
    e pharmacy.status, l pharmacy.shift, ch "char", n name, o oid, cls regclass, tid tid, h hstore, en pharmacy.status[]
);
INSERT INTO "Filial São João"."Preços ""de"" Venda" VALUES
    (1, 'çãé ☃ 𝄞', 1.0, '-0', '-0', '{"a": 1,  "a": 2}', '{"b": [1.0, 1.00]}', '<a>ç</a>', 'gato:1A rato:2', 'gato & !rato',
     '(1,-0)', '(1,1),(0,0)', '<(0,0),1>', '\x00ff10', '1 month', 'infinity', '-infinity', '12:00:00+05:30',
     '11111111-2222-3333-4444-555555555555', '10.0.0.1/8', '10.0.0.0/8', '08:00:2b:01:02:03', B'10101', B'1', '12.34', '[1,5)',
     '{[1,2),[3,4)}', '{{1,2},{3,NULL}}', '{1.10,2.20}', ARRAY[ROW('a,b', 1, 'c')::pharmacy.address, NULL], 'paga', '[08:00,12:00)',
     'x', 'nome', 4000000000, 'pharmacy.sales', '(1,2)', 'a=>1,b=>NULL', '{paga,aberta}'),
    (2, E'linha\nnova\ttab \\ barra | "aspas"', 1.00, 'NaN', 'Infinity', 'null', 'null', '<b/>', '', NULL, '(NaN,0)', NULL, NULL, '',
     '30 days', '0044-03-15 12:00:00 BC', 'infinity', NULL, NULL, '::1', NULL, NULL, NULL, NULL, '-0.01', 'empty', '{}', '{}', '{}', '{}',
     NULL, NULL, '', '', 0, NULL, NULL, '', NULL),
    (NULL, '', 'NaN', 0, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '1 day -1 second', '2026-01-01 00:00:00.123456', '0001-01-01 BC',
     NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
    (NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
     NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
CREATE TABLE "Filial São João".nothing ();
INSERT INTO "Filial São João".nothing DEFAULT VALUES;
CREATE UNLOGGED TABLE archive.unlogged AS SELECT 1 AS one;
CREATE TABLE archive.big (id integer PRIMARY KEY, body text);
INSERT INTO archive.big SELECT i, repeat(md5(i::text), 1 + i % 300) FROM generate_series(1, 2500) i;

-- Views, one with rules; materialized views: fresh, stale, on a stale one, unpopulated, asking the clock.
CREATE VIEW pharmacy.open_sales WITH (security_barrier) AS SELECT id, total, note FROM pharmacy.sales WHERE status = 'aberta';
CREATE RULE open_sales_delete AS ON DELETE TO pharmacy.open_sales DO INSTEAD UPDATE pharmacy.sales SET status = 'cancelada' WHERE id = OLD.id;
CREATE VIEW archive.kinds AS SELECT * FROM pharmacy.sales WHERE kind IN ('balcao', 'entrega');
-- The server prints BETWEEN before AND in one way, and in another after it has read that.
ALTER TABLE pharmacy.sales ADD CHECK (id BETWEEN 0 AND 1000000000 AND kind <> '');
CREATE INDEX sales_between ON pharmacy.sales (id) WHERE id BETWEEN 5 AND 50 AND kind <> 'x';
CREATE VIEW archive.some_sales AS SELECT id FROM pharmacy.sales WHERE id BETWEEN 5 AND 50 AND kind <> 'x' OR id = 3;
CREATE MATERIALIZED VIEW pharmacy.daily AS SELECT sold_at::date AS day, count(*) AS n, sum(total) AS total FROM pharmacy.sales GROUP BY 1;
CREATE UNIQUE INDEX ON pharmacy.daily (day);
CREATE MATERIALIZED VIEW pharmacy.stale AS SELECT count(*) AS n FROM archive.person;
CREATE MATERIALIZED VIEW pharmacy.above_stale AS SELECT n + 1 AS n FROM pharmacy.stale;
CREATE MATERIALIZED VIEW pharmacy.empty AS SELECT 1 AS one WITH NO DATA;
CREATE MATERIALIZED VIEW pharmacy.clock AS SELECT count(*) AS n FROM pharmacy.sales WHERE sold_at < now();
INSERT INTO archive.person VALUES (99, 'late');

-- Row-level security, forced.
CREATE TABLE pharmacy.secrets (id integer PRIMARY KEY, owner name, body text);
INSERT INTO pharmacy.secrets SELECT i, 'shop_app', md5(i::text) FROM generate_series(1, 50) i;
ALTER TABLE pharmacy.secrets ENABLE ROW LEVEL SECURITY;
ALTER TABLE pharmacy.secrets FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON pharmacy.secrets FOR SELECT TO shop_app, "Auditoria Ção" USING (owner = current_user);
CREATE POLICY nobody ON pharmacy.secrets AS RESTRICTIVE FOR UPDATE USING (false) WITH CHECK (false);

-- Sequences, functions, defaults, events, publications.
CREATE SEQUENCE archive.countdown INCREMENT BY -5 START WITH 1000 MAXVALUE 1000 MINVALUE 0 CYCLE;
SELECT nextval('archive.countdown'), nextval('archive.countdown');
CREATE SEQUENCE archive.untouched;
CREATE AGGREGATE archive.longest (text) (sfunc = textcat, stype = text, initcond = '');
CREATE FUNCTION archive.twice(integer, factor integer DEFAULT 2) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT $1 * factor';
CREATE PROCEDURE archive.nothing_to_do() LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN END $$;
REVOKE EXECUTE ON FUNCTION archive.twice FROM PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE shop_owner IN SCHEMA pharmacy GRANT SELECT ON TABLES TO shop_app;
ALTER DEFAULT PRIVILEGES FOR ROLE shop_owner REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
CREATE FUNCTION archive.on_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN END $$;
CREATE EVENT TRIGGER watch ON ddl_command_start EXECUTE FUNCTION archive.on_ddl();
CREATE PUBLICATION shipped FOR TABLE archive.sales;
CREATE COLLATION archive.pt (provider = libc, locale = 'C');
CREATE TEXT SEARCH CONFIGURATION archive.portugues (COPY = pg_catalog.portuguese);
CREATE OPERATOR archive.=== (leftarg = text, rightarg = text, function = pg_catalog.texteq);

-- Large objects: plain, empty, with a hole.
SELECT lo_from_bytea(70001, decode(repeat('00ff41', 3000), 'hex')), lo_from_bytea(70002, ''), lo_from_bytea(70003, 'x');
SELECT lo_put(70003, 100000, '\x010203');
GRANT SELECT ON LARGE OBJECT 70001 TO shop_app;
COMMENT ON LARGE OBJECT 70002 IS 'vazio';
