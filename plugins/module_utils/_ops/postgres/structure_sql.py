# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The queries of the structure inventory. The search path is empty, so only pg_catalog is found.

``PLAIN`` queries return (name, definition), ``DIGESTED`` ones (name, facts, text to digest).
"""

from __future__ import annotations

from typing import LiteralString

FIRST_USER_OID: LiteralString = "16384"

_OWN: LiteralString = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"


def _not_member(catalog: LiteralString, oid: LiteralString) -> LiteralString:
    """Not a member of an extension (those come with CREATE EXTENSION)."""
    return (
        "NOT EXISTS (SELECT FROM pg_depend e WHERE e.deptype = 'e' "
        "AND e.classid = '" + catalog + "'::regclass AND e.objid = " + oid + ")"
    )


def _acl(acl: LiteralString, kind: LiteralString, owner: LiteralString) -> LiteralString:
    """Privileges as sorted text; the default where none was ever granted."""
    return (
        "COALESCE((SELECT string_agg(g.text, ' ' ORDER BY g.text COLLATE \"C\") FROM ("
        "SELECT CASE WHEN x.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(x.grantee)) END"
        " || '=' || x.privilege_type || CASE WHEN x.is_grantable THEN '*' ELSE '' END AS text"
        " FROM aclexplode(COALESCE(" + acl + ", acldefault(" + kind + ", " + owner + "))) x) g), '')"
    )


def _options(options: LiteralString) -> LiteralString:
    """Storage options as sorted text. Debian's servers keep a number of their own in each column's
    options (``pg_attver``), new in every database; names that begin with ``pg_`` are not a user's.
    """
    return (
        "COALESCE((SELECT string_agg(o, ',' ORDER BY o) FROM unnest("
        + options
        + ") o WHERE o !~ '^pg_'), '')"
    )


_KIND: LiteralString = (
    "CASE c.relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'partitioned table' WHEN 'v' THEN 'view' "
    "WHEN 'm' THEN 'materialized view' WHEN 'f' THEN 'foreign table' WHEN 'c' THEN 'composite type' END"
)

_SCHEMAS: LiteralString = (
    "SELECT format('schema %I', n.nspname), 'owner ' || pg_get_userbyid(n.nspowner) || '; privileges ' || "
    + _acl("n.nspacl", "'n'", "n.nspowner")
    + " FROM pg_namespace n WHERE "
    + _OWN
    + " AND "
    + _not_member("pg_namespace", "n.oid")
)

_TABLES: LiteralString = (
    "SELECT " + _KIND + " || format(' %I.%I', n.nspname, c.relname), concat_ws('; ', "
    "'owner ' || pg_get_userbyid(c.relowner), 'privileges ' || "
    + _acl("c.relacl", "'r'", "c.relowner")
    + ", 'persistence ' || c.relpersistence::text, 'replica identity ' || c.relreplident::text, "
    "CASE WHEN c.relrowsecurity THEN 'row security' END, "
    "CASE WHEN c.relforcerowsecurity THEN 'forced row security' END, "
    "'options ' || NULLIF(" + _options("c.reloptions") + ", ''), "
    "'access method ' || am.amname, "
    "'of ' || NULLIF(c.reloftype, 0)::regtype::text, "
    "'partition by ' || pg_get_partkeydef(c.oid), "
    "pg_get_expr(c.relpartbound, c.oid), "
    "'inherits ' || (SELECT string_agg(i.inhparent::regclass::text, ', ' ORDER BY i.inhseqno) "
    "FROM pg_inherits i WHERE i.inhrelid = c.oid)) "
    "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_am am ON am.oid = c.relam "
    "WHERE c.relkind IN ('r', 'p', 'f', 'c') AND c.relpersistence <> 't' AND "
    + _OWN
    + " AND "
    + _not_member("pg_class", "c.oid")
)

_COLUMNS: LiteralString = (
    "SELECT format('column %I.%I.%I', n.nspname, c.relname, a.attname), concat_ws('; ', "
    "row_number() OVER (PARTITION BY c.oid ORDER BY a.attnum) || ' ' || "
    "format_type(a.atttypid, a.atttypmod), "
    "CASE WHEN a.attcollation <> t.typcollation THEN 'collate ' || a.attcollation::regcollation::text END, "
    "CASE WHEN a.attnotnull THEN 'not null' END, "
    "CASE a.attgenerated WHEN '' THEN 'default ' ELSE 'generated ' END || pg_get_expr(d.adbin, d.adrelid), "
    "'identity ' || NULLIF(a.attidentity::text, ''), "
    "'storage ' || a.attstorage::text, 'compression ' || NULLIF(a.attcompression::text, ''), "
    "'statistics ' || NULLIF(a.attstattarget, -1)::text, "
    "'options ' || NULLIF(" + _options("a.attoptions") + ", ''), "
    "CASE WHEN a.attacl IS NOT NULL THEN 'privileges ' || " + _acl("a.attacl", "'c'", "c.relowner") + " END) "
    "FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace "
    "JOIN pg_type t ON t.oid = a.atttypid "
    "LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum "
    "WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'f', 'c', 'v', 'm') "
    "AND c.relpersistence <> 't' AND " + _OWN + " AND " + _not_member("pg_class", "c.oid")
)

_SEQUENCES: LiteralString = (
    "SELECT format('sequence %I.%I', n.nspname, c.relname), concat_ws('; ', "
    "'owner ' || pg_get_userbyid(c.relowner), 'privileges ' || "
    + _acl("c.relacl", "'s'", "c.relowner")
    + ", "
    "format('%s start %s increment %s minimum %s maximum %s cache %s%s', s.seqtypid::regtype, s.seqstart, "
    "s.seqincrement, s.seqmin, s.seqmax, s.seqcache, CASE WHEN s.seqcycle THEN ' cycle' ELSE '' END), "
    "(SELECT format('owned by %s.%I', d.refobjid::regclass, a.attname) FROM pg_depend d "
    "JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid "
    "WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype IN ('a', 'i') "
    "AND d.refclassid = 'pg_class'::regclass AND d.refobjsubid > 0)) "
    "FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace "
    "WHERE c.relpersistence <> 't' AND " + _OWN + " AND " + _not_member("pg_class", "c.oid")
)

# A foreign key of a partition that comes from its parent gets a name of the server's choice.
_CONSTRAINTS: LiteralString = (
    "SELECT format('constraint %I on %s', k.conname, COALESCE(NULLIF(k.conrelid, 0)::regclass::text, "
    "k.contypid::regtype::text)), pg_get_constraintdef(k.oid) "
    "FROM pg_constraint k JOIN pg_namespace n ON n.oid = k.connamespace "
    "WHERE k.contype <> 't' AND NOT (k.contype = 'f' AND k.conparentid <> 0) AND "
    + _OWN
    + " AND CASE WHEN k.conrelid <> 0 THEN "
    + _not_member("pg_class", "k.conrelid")
    + " ELSE "
    + _not_member("pg_type", "k.contypid")
    + " END"
)

_INDEXES: LiteralString = (
    "SELECT format('index %I.%I', n.nspname, c.relname), concat_ws('; ', pg_get_indexdef(i.indexrelid), "
    "CASE WHEN NOT i.indisvalid THEN 'invalid' END, CASE WHEN i.indisclustered THEN 'clustered' END, "
    "CASE WHEN i.indisreplident THEN 'replica identity' END) "
    "FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace "
    "WHERE c.relpersistence <> 't' AND " + _OWN + " AND " + _not_member("pg_class", "i.indrelid")
)

_TRIGGERS: LiteralString = (
    "SELECT format('trigger %I on %s', t.tgname, t.tgrelid::regclass), "
    "pg_get_triggerdef(t.oid) || '; enabled ' || t.tgenabled::text "
    "FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace "
    "WHERE NOT t.tgisinternal AND " + _OWN + " AND " + _not_member("pg_class", "c.oid")
)

_POLICIES: LiteralString = (
    "SELECT format('policy %I on %s', p.polname, p.polrelid::regclass), concat_ws('; ', "
    "'for ' || p.polcmd::text, CASE WHEN p.polpermissive THEN 'permissive' ELSE 'restrictive' END, "
    "'to ' || (SELECT string_agg(CASE WHEN r = 0 THEN 'PUBLIC' ELSE "
    "quote_ident(pg_get_userbyid(r)) END, ', ' "
    "ORDER BY pg_get_userbyid(r)) FROM unnest(p.polroles) r), "
    "'using ' || pg_get_expr(p.polqual, p.polrelid), 'check ' || pg_get_expr(p.polwithcheck, p.polrelid)) "
    "FROM pg_policy p"
)

_TYPES: LiteralString = (
    "SELECT CASE t.typtype WHEN 'e' THEN 'enum' WHEN 'd' THEN 'domain' WHEN 'r' THEN 'range' ELSE 'type' END "
    "|| format(' %I.%I', n.nspname, t.typname), concat_ws('; ', "
    "'owner ' || pg_get_userbyid(t.typowner), 'privileges ' || "
    + _acl("t.typacl", "'T'", "t.typowner")
    + ", "
    "(SELECT string_agg(quote_literal(l.enumlabel), ', ' ORDER BY l.enumsortorder) "
    "FROM pg_enum l WHERE l.enumtypid = t.oid), "
    "CASE WHEN t.typtype = 'd' THEN format_type(t.typbasetype, t.typtypmod) || ' default ' "
    "|| COALESCE(t.typdefault, 'none') || CASE WHEN t.typnotnull THEN ' not null' ELSE '' END "
    "|| CASE WHEN t.typcollation <> b.typcollation THEN ' collate ' || "
    "t.typcollation::regcollation::text ELSE '' END "
    "END, "
    "(SELECT format('of %s collate %s canonical %s difference %s', g.rngsubtype::regtype, "
    "g.rngcollation::regcollation, g.rngcanonical, g.rngsubdiff) FROM pg_range g WHERE g.rngtypid = t.oid)) "
    "FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace LEFT JOIN pg_type b ON b.oid "
    "= t.typbasetype "
    "WHERE (t.typtype IN ('e', 'd', 'r') OR (t.typtype = 'b' AND t.typelem = 0)) AND "
    + _OWN
    + " AND "
    + _not_member("pg_type", "t.oid")
)

_DEFAULT_PRIVILEGES: LiteralString = (
    "SELECT format('default privileges of %I%s for %s', pg_get_userbyid(a.defaclrole), "
    "COALESCE(' in ' || quote_ident(n.nspname), ''), a.defaclobjtype), "
    + _acl("a.defaclacl", "'r'", "a.defaclrole")
    + " FROM pg_default_acl a LEFT JOIN pg_namespace n ON n.oid = a.defaclnamespace"
)

_DATABASE: LiteralString = (
    "SELECT 'database', concat_ws('; ', 'encoding ' || pg_encoding_to_char(d.encoding), "
    "'collate ' || d.datcollate, 'ctype ' || d.datctype, 'owner ' || pg_get_userbyid(d.datdba), "
    "'connection limit ' || d.datconnlimit::text, 'privileges ' || "
    + _acl("d.datacl", "'d'", "d.datdba")
    + ") "
    "FROM pg_database d WHERE d.datname = current_database()"
)

_EVENT_TRIGGERS: LiteralString = (
    "SELECT format('event trigger %I', t.evtname), format('%s %s %s enabled %s owner %s', t.evtevent, "
    "t.evtfoid::regproc, t.evttags, t.evtenabled, pg_get_userbyid(t.evtowner)) FROM pg_event_trigger t WHERE "
    + _not_member("pg_event_trigger", "t.oid")
)

_PUBLICATIONS: LiteralString = (
    "SELECT format('publication %I', p.pubname), format('owner %s; %s; tables %s', "
    "pg_get_userbyid(p.pubowner), "
    "to_jsonb(p) - 'oid' - 'pubowner' - 'pubname', (SELECT string_agg(r.prrelid::regclass::text, ', ' "
    "ORDER BY r.prrelid::regclass::text) FROM pg_publication_rel r WHERE r.prpubid = p.oid)) "
    "FROM pg_publication p"
)

_STATISTICS: LiteralString = (
    "SELECT format('statistics %I.%I', n.nspname, s.stxname), pg_get_statisticsobjdef(s.oid) || '; owner ' "
    "|| pg_get_userbyid(s.stxowner) FROM pg_statistic_ext s JOIN pg_namespace n ON n.oid = s.stxnamespace "
    "WHERE " + _OWN
)

_EXTENSIONS: LiteralString = (
    "SELECT format('extension %I', e.extname), format('in schema %I', n.nspname) "
    "FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace"
)


def _identified(catalog: LiteralString) -> LiteralString:
    return (
        "SELECT i.type || ' ' || i.identity, 'present' FROM " + catalog + " o, "
        "pg_identify_object('" + catalog + "'::regclass, o.oid, 0) i "
        "WHERE o.oid >= " + FIRST_USER_OID + " AND " + _not_member(catalog, "o.oid")
    )


PLAIN: tuple[LiteralString, ...] = (
    _SCHEMAS,
    _TABLES,
    _COLUMNS,
    _SEQUENCES,
    _CONSTRAINTS,
    _INDEXES,
    _TRIGGERS,
    _POLICIES,
    _TYPES,
    _DEFAULT_PRIVILEGES,
    _DATABASE,
    _EVENT_TRIGGERS,
    _PUBLICATIONS,
    _STATISTICS,
    _EXTENSIONS,
    _identified("pg_collation"),
    _identified("pg_operator"),
    _identified("pg_opclass"),
    _identified("pg_opfamily"),
    _identified("pg_cast"),
    _identified("pg_conversion"),
    _identified("pg_language"),
    _identified("pg_ts_config"),
    _identified("pg_ts_dict"),
    _identified("pg_ts_parser"),
    _identified("pg_ts_template"),
    _identified("pg_transform"),
    _identified("pg_am"),
)

_VIEWS: LiteralString = (
    "SELECT " + _KIND + " || format(' %I.%I', n.nspname, c.relname), concat_ws('; ', "
    "'owner ' || pg_get_userbyid(c.relowner), 'privileges ' || "
    + _acl("c.relacl", "'r'", "c.relowner")
    + ", "
    "'options ' || NULLIF(" + _options("c.reloptions") + ", '')), pg_get_viewdef(c.oid) "
    "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
    "WHERE c.relkind IN ('v', 'm') AND c.relpersistence <> 't' AND "
    + _OWN
    + " AND "
    + _not_member("pg_class", "c.oid")
)

_RULES: LiteralString = (
    "SELECT format('rule %I on %s', r.rulename, r.ev_class::regclass), 'enabled ' || r.ev_enabled::text, "
    "pg_get_ruledef(r.oid) FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class "
    "JOIN pg_namespace n ON n.oid = c.relnamespace "
    "WHERE r.rulename <> '_RETURN' AND " + _OWN + " AND " + _not_member("pg_class", "c.oid")
)

_FUNCTIONS: LiteralString = (
    "SELECT CASE p.prokind WHEN 'a' THEN 'aggregate' WHEN 'p' THEN 'procedure' ELSE 'function' END "
    "|| format(' %I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)), "
    "'owner ' || pg_get_userbyid(p.proowner) || '; privileges ' || "
    + _acl("p.proacl", "'f'", "p.proowner")
    + ", "
    "CASE WHEN p.prokind = 'a' THEN (SELECT format('%s %s %s %s %s %s', g.aggkind, "
    "g.aggtransfn, g.aggfinalfn, "
    "g.aggcombinefn, format_type(g.aggtranstype, NULL), g.agginitval) FROM pg_aggregate g "
    "WHERE g.aggfnoid = p.oid) "
    "ELSE pg_get_functiondef(p.oid) END "
    "FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE "
    + _OWN
    + " AND "
    + _not_member("pg_proc", "p.oid")
)

_COMMENTS: LiteralString = (
    "SELECT 'comment on ' || i.type || ' ' || i.identity, '', d.description FROM pg_description d, "
    "pg_identify_object(d.classoid, d.objoid, d.objsubid) i "
    "WHERE (d.objoid >= " + FIRST_USER_OID + " OR (d.classoid = 'pg_namespace'::regclass "
    "AND d.objoid = 'public'::regnamespace)) "
    "AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.deptype = 'e' AND e.classid = d.classoid "
    "AND e.objid = d.objoid)"
)

_DATABASE_COMMENT: LiteralString = (
    "SELECT 'comment on database', '', d.description FROM pg_shdescription d "
    "JOIN pg_database b ON b.oid = d.objoid AND d.classoid = 'pg_database'::regclass "
    "WHERE b.datname = current_database()"
)

_SECURITY_LABELS: LiteralString = (
    "SELECT format('security label of %s on %s %s', l.provider, l.objtype, l.objname), '', l.label "
    "FROM pg_seclabels l WHERE l.objtype NOT IN ('role', 'tablespace', 'database')"
)

_SETTINGS: LiteralString = (
    "SELECT 'setting ' || split_part(c.line, '=', 1) || ' of the database' "
    "|| CASE WHEN s.setrole = 0 THEN '' ELSE format(' for %I', pg_get_userbyid(s.setrole)) END, '', c.line "
    "FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase, unnest(s.setconfig) AS c(line) "
    "WHERE d.datname = current_database()"
)

_FOREIGN: LiteralString = (
    "SELECT format('foreign data wrapper %I', w.fdwname), 'owner ' || pg_get_userbyid(w.fdwowner), "
    + _options("w.fdwoptions")
    + " FROM pg_foreign_data_wrapper w WHERE "
    + _not_member("pg_foreign_data_wrapper", "w.oid")
    + " UNION ALL SELECT format('foreign server %I', s.srvname), 'owner ' || pg_get_userbyid(s.srvowner) "
    "|| '; privileges ' || "
    + _acl("s.srvacl", "'S'", "s.srvowner")
    + ", "
    + _options("s.srvoptions")
    + " FROM pg_foreign_server s"
)

_LARGE_OBJECTS: LiteralString = (
    "SELECT 'owners and privileges of large objects', '', COALESCE(string_agg(format('%s %s %s', m.oid, "
    "pg_get_userbyid(m.lomowner), " + _acl("m.lomacl", "'L'", "m.lomowner") + "), ',' ORDER BY m.oid), '') "
    "FROM pg_largeobject_metadata m"
)

DIGESTED: tuple[LiteralString, ...] = (
    _VIEWS,
    _RULES,
    _FUNCTIONS,
    _COMMENTS,
    _DATABASE_COMMENT,
    _SECURITY_LABELS,
    _SETTINGS,
    _FOREIGN,
    _LARGE_OBJECTS,
)

ROLES: LiteralString = (
    "SELECT quote_ident(r.rolname), concat_ws('; ', "
    "CASE WHEN r.rolsuper THEN 'superuser' END, CASE WHEN r.rolcanlogin THEN 'login' END, "
    "CASE WHEN r.rolcreaterole THEN 'createrole' END, CASE WHEN r.rolcreatedb THEN 'createdb' END, "
    "CASE WHEN r.rolreplication THEN 'replication' END, CASE WHEN r.rolbypassrls THEN 'bypassrls' END, "
    "CASE WHEN NOT r.rolinherit THEN 'noinherit' END, "
    "'connection limit ' || NULLIF(r.rolconnlimit, -1)::text, 'valid until ' || r.rolvaliduntil::text, "
    "'settings sha256 ' || left(encode(sha256(convert_to(r.rolconfig::text, 'UTF8')), 'hex'), 32), "
    "'member of ' || (SELECT string_agg(quote_ident(g.rolname) || CASE WHEN m.admin_option "
    "THEN ' with admin' ELSE '' END, ', ' ORDER BY g.rolname COLLATE \"C\") "
    "FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid WHERE m.member = r.oid)) "
    "FROM pg_roles r WHERE r.rolname !~ '^pg_' ORDER BY 1"
)
