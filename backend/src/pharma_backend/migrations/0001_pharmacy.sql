-- The pharmacy: stores, people, products, stock by lot, cash sessions, sales, payments, audit.
-- Every object is named with its schema; money is numeric(12,2).

-- Written out: a check on every row of a restore must not cost a query of its own.
create function pharmacy.cpf_is_valid(value text) returns boolean
  language sql immutable strict parallel safe
  return length(value) = 11 and value ~ '^[0-9]+$' and value <> repeat(left(value, 1), 11)
    and substr(value, 10, 1)::int = (
        substr(value, 1, 1)::int * 10 + substr(value, 2, 1)::int * 9 + substr(value, 3, 1)::int * 8 + substr(value, 4, 1)::int * 7
        + substr(value, 5, 1)::int * 6 + substr(value, 6, 1)::int * 5 + substr(value, 7, 1)::int * 4 + substr(value, 8, 1)::int * 3
        + substr(value, 9, 1)::int * 2
      ) * 10 % 11 % 10
    and substr(value, 11, 1)::int = (
        substr(value, 1, 1)::int * 11 + substr(value, 2, 1)::int * 10 + substr(value, 3, 1)::int * 9 + substr(value, 4, 1)::int * 8
        + substr(value, 5, 1)::int * 7 + substr(value, 6, 1)::int * 6 + substr(value, 7, 1)::int * 5 + substr(value, 8, 1)::int * 4
        + substr(value, 9, 1)::int * 3 + substr(value, 10, 1)::int * 2
      ) * 10 % 11 % 10;

create domain pharmacy.cpf as text check (pharmacy.cpf_is_valid(value));
create domain pharmacy.email as text check (length(value) <= 254 and value ~ '^[^@\s]+@[^@\s]+\.[^@\s]+$');
create domain pharmacy.amount as numeric(12, 2) check (value >= 0);

create type pharmacy.user_role as enum ('admin', 'manager', 'cashier');
create type pharmacy.sale_status as enum ('open', 'paid', 'cancelled');
create type pharmacy.payment_method as enum ('cash', 'debit_card', 'credit_card', 'pix');

create function pharmacy.touch_updated_at() returns trigger
  language plpgsql
as $$
begin
  new.updated_at := now();
  return new;
end
$$;

create function pharmacy.refuse_change() returns trigger
  language plpgsql
as $$
begin
  raise exception 'rows of %.% are never changed or removed', tg_table_schema, tg_table_name
    using errcode = 'restrict_violation';
end
$$;

create table pharmacy.stores (
  id bigint generated always as identity primary key,
  code text not null unique check (code ~ '^[A-Z0-9][A-Z0-9-]{1,15}$'),
  name text not null check (name <> ''),
  cnpj text not null unique check (cnpj ~ '^[0-9]{14}$'),
  city text not null,
  state char(2) not null check (state ~ '^[A-Z]{2}$'),
  time_zone text not null default 'America/Sao_Paulo',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);

create table pharmacy.users (
  id bigint generated always as identity primary key,
  store_id bigint not null references pharmacy.stores (id),
  username text not null unique check (username ~ '^[a-z0-9][a-z0-9._-]{1,63}$'),
  full_name text not null check (full_name <> ''),
  email pharmacy.email,
  role pharmacy.user_role not null,
  password_hash text not null,
  active boolean not null default true,
  last_login_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);
create index users_store_id_idx on pharmacy.users (store_id);

create table pharmacy.refresh_tokens (
  id bigint generated always as identity primary key,
  user_id bigint not null references pharmacy.users (id) on delete cascade,
  family uuid not null,
  token_hash bytea not null unique check (octet_length(token_hash) = 32),
  issued_at timestamptz not null default now(),
  expires_at timestamptz not null,
  used_at timestamptz,
  revoked_at timestamptz,
  check (expires_at > issued_at)
);
create index refresh_tokens_family_idx on pharmacy.refresh_tokens (family);
create index refresh_tokens_user_id_idx on pharmacy.refresh_tokens (user_id);

create table pharmacy.customers (
  id bigint generated always as identity primary key,
  full_name text not null check (full_name <> ''),
  cpf pharmacy.cpf not null unique,
  email pharmacy.email,
  phone text check (length(phone) between 13 and 14 and phone ~ '^\+55[0-9]+$'),
  born_on date check (born_on > date '1900-01-01'),
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);
create index customers_full_name_idx on pharmacy.customers (lower(full_name) text_pattern_ops);

create table pharmacy.products (
  id bigint generated always as identity primary key,
  ean char(13) not null unique check (ean ~ '^[0-9]{13}$'),
  name text not null check (name <> ''),
  active_ingredient text not null,
  controlled boolean not null default false,
  price pharmacy.amount not null check (price > 0),
  active boolean not null default true,
  attributes jsonb not null default '{}' check (jsonb_typeof(attributes) = 'object'),
  search tsvector generated always as (to_tsvector('portuguese'::regconfig, name || ' ' || active_ingredient)) stored,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);
create index products_search_idx on pharmacy.products using gin (search);

create table pharmacy.lots (
  id bigint generated always as identity primary key,
  product_id bigint not null references pharmacy.products (id),
  code text not null check (code <> ''),
  manufactured_on date not null,
  expires_on date not null,
  unit_cost pharmacy.amount not null,
  created_at timestamptz not null default now(),
  unique (product_id, code),
  unique (id, product_id),
  check (expires_on > manufactured_on)
);
create index lots_product_id_expires_on_idx on pharmacy.lots (product_id, expires_on);

-- How much of a lot lies in a store. expires_on of the lot is its last good day.
create table pharmacy.stock (
  store_id bigint not null references pharmacy.stores (id),
  lot_id bigint not null references pharmacy.lots (id),
  received integer not null check (received > 0),
  quantity integer not null check (quantity between 0 and received),
  updated_at timestamptz not null default now(),
  primary key (store_id, lot_id)
);
create index stock_lot_id_idx on pharmacy.stock (lot_id);

create table pharmacy.cash_sessions (
  id bigint generated always as identity primary key,
  store_id bigint not null references pharmacy.stores (id),
  user_id bigint not null references pharmacy.users (id),
  register text not null check (length(register) between 1 and 64),
  opened_at timestamptz not null default now(),
  opening_amount pharmacy.amount not null,
  closed_at timestamptz,
  closing_amount pharmacy.amount,
  check ((closed_at is null) = (closing_amount is null)),
  check (closed_at >= opened_at)
);
create unique index cash_sessions_one_open_per_user_idx on pharmacy.cash_sessions (user_id) where closed_at is null;
create unique index cash_sessions_one_open_per_register_idx
  on pharmacy.cash_sessions (store_id, register) where closed_at is null;
create index cash_sessions_user_id_idx on pharmacy.cash_sessions (user_id, opened_at desc);

create table pharmacy.sales (
  id bigint generated always as identity primary key,
  store_id bigint not null references pharmacy.stores (id),
  cash_session_id bigint not null references pharmacy.cash_sessions (id),
  user_id bigint not null references pharmacy.users (id),
  customer_id bigint references pharmacy.customers (id),
  status pharmacy.sale_status not null default 'open',
  total pharmacy.amount not null,
  created_at timestamptz not null default now(),
  paid_at timestamptz,
  cancelled_at timestamptz,
  check ((status = 'paid') = (paid_at is not null)),
  check ((status = 'cancelled') = (cancelled_at is not null))
);
create index sales_store_id_created_at_idx on pharmacy.sales (store_id, created_at desc);
create index sales_cash_session_id_idx on pharmacy.sales (cash_session_id);
create index sales_customer_id_idx on pharmacy.sales (customer_id) where customer_id is not null;

-- One row for each lot that a sale took from.
create table pharmacy.sale_items (
  sale_id bigint not null references pharmacy.sales (id),
  line smallint not null check (line > 0),
  product_id bigint not null,
  lot_id bigint not null,
  quantity integer not null check (quantity > 0),
  unit_price pharmacy.amount not null,
  line_total numeric(12, 2) generated always as (quantity * unit_price) stored,
  primary key (sale_id, line),
  foreign key (lot_id, product_id) references pharmacy.lots (id, product_id)
);
create index sale_items_lot_id_idx on pharmacy.sale_items (lot_id);

create table pharmacy.payments (
  id bigint generated always as identity primary key,
  sale_id bigint not null references pharmacy.sales (id),
  cash_session_id bigint not null references pharmacy.cash_sessions (id),
  method pharmacy.payment_method not null,
  amount pharmacy.amount not null check (amount > 0),
  tendered pharmacy.amount not null,
  change_due numeric(12, 2) generated always as (tendered - amount) stored,
  created_at timestamptz not null default now(),
  check (tendered >= amount),
  check (method = 'cash' or tendered = amount)
);
create index payments_sale_id_idx on pharmacy.payments (sale_id);
create index payments_cash_session_id_idx on pharmacy.payments (cash_session_id, method);

create table pharmacy.audit_log (
  id bigint generated always as identity primary key,
  occurred_at timestamptz not null default now(),
  user_id bigint references pharmacy.users (id),
  store_id bigint references pharmacy.stores (id),
  action text not null check (action ~ '^[a-z][a-z0-9_]*$'),
  entity text,
  entity_id bigint,
  -- Not {8,128}: a counted repetition costs thirty times as much on each row.
  request_id text check (length(request_id) between 8 and 128 and request_id ~ '^[A-Za-z0-9._-]+$'),
  details jsonb not null default '{}' check (jsonb_typeof(details) = 'object')
);
create index audit_log_occurred_at_idx on pharmacy.audit_log using brin (occurred_at);
create index audit_log_entity_idx on pharmacy.audit_log (entity, entity_id);

create trigger stores_touch before update on pharmacy.stores
  for each row execute function pharmacy.touch_updated_at();
create trigger users_touch before update on pharmacy.users
  for each row execute function pharmacy.touch_updated_at();
create trigger customers_touch before update on pharmacy.customers
  for each row execute function pharmacy.touch_updated_at();
create trigger products_touch before update on pharmacy.products
  for each row execute function pharmacy.touch_updated_at();
create trigger stock_touch before update on pharmacy.stock
  for each row execute function pharmacy.touch_updated_at();
create trigger audit_log_append_only before update or delete or truncate on pharmacy.audit_log
  for each statement execute function pharmacy.refuse_change();

create view pharmacy.cash_session_totals as
  select s.id as cash_session_id, m.method,
         coalesce(sum(p.amount), 0)::numeric(12, 2)
           + case when m.method = 'cash' then s.opening_amount::numeric(12, 2) else 0 end as expected
    from pharmacy.cash_sessions s
   cross join unnest(enum_range(null::pharmacy.payment_method)) as m (method)
    left join pharmacy.payments p on p.cash_session_id = s.id and p.method = m.method
   group by s.id, m.method, s.opening_amount;

grant usage on schema pharmacy to pharma_runtime;
grant select on all tables in schema pharmacy to pharma_runtime;
grant usage, select, update on all sequences in schema pharmacy to pharma_runtime;
grant insert, update on
  pharmacy.stores, pharmacy.users, pharmacy.refresh_tokens, pharmacy.customers, pharmacy.products, pharmacy.lots,
  pharmacy.stock, pharmacy.cash_sessions, pharmacy.sales
  to pharma_runtime;
grant insert on pharmacy.sale_items, pharmacy.payments, pharmacy.audit_log to pharma_runtime;
grant delete on pharmacy.refresh_tokens to pharma_runtime;
