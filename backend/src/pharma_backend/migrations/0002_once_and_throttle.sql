-- Answers that a repeated request gets again, attempts to log in, and the key of each refresh token.
-- The release before runs on it: new tables, and a column that may be null.

-- Written in the transaction of the change itself, so either both are kept or neither.
create table pharmacy.idempotency_keys (
  user_id bigint not null references pharmacy.users (id) on delete cascade,
  key text not null check (length(key) between 8 and 128 and key ~ '^[A-Za-z0-9._-]+$'),
  fingerprint bytea not null check (octet_length(fingerprint) = 32),
  status smallint not null check (status between 200 and 299),
  answer bytea not null,
  created_at timestamptz not null default now(),
  primary key (user_id, key)
);
create index idempotency_keys_created_at_idx on pharmacy.idempotency_keys (created_at);

-- A subject is a keyed hash of an address, or of an address and a user name; neither stands here.
create table pharmacy.login_attempts (
  subject bytea primary key check (octet_length(subject) = 32),
  attempts double precision not null check (attempts >= 0),
  last_at timestamptz not null default now()
);
create index login_attempts_last_at_idx on pharmacy.login_attempts (last_at);

alter table pharmacy.refresh_tokens add column kid text;

grant select, insert, update, delete on pharmacy.idempotency_keys, pharmacy.login_attempts to pharma_runtime;
