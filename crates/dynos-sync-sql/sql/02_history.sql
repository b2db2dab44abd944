-- Scopes, lives and cursors.
--
-- Functions that calls of the protocol are made of are in PL/pgSQL where they cannot become a part of the statement that
-- calls them: it keeps their plans for as long as the connection lasts. One in SQL would be planned at every call.

-- The user who calls, as the token says.
create or replace function dynos.subject() returns text language sql stable as $$
    select nullif(nullif(current_setting('request.jwt.claims', true), '')::json ->> 'sub', '')
$$;

-- The user's scope. Its name begins with 'u:', so that no subject can take the shared one's.
create or replace function dynos.mine() returns text language plpgsql stable as $$
begin
    if dynos.subject() is null then
        raise sqlstate 'PT401' using message = 'the token names no user', hint = 'sign in';
    end if;
    return 'u:' || dynos.subject();
end $$;

-- The scope in which the caller's table is.
create or replace function dynos.scope_of(wanted text) returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
begin
    return (
        select case when coalesce(
                (select t.owner is null from dynos.track t where t.name = wanted),
                exists (select from dynos.shared s where s.name = wanted)) then 's'
            else dynos.mine()
        end
    );
end $$;

create or replace function dynos.now_ms() returns bigint language sql volatile as $$
    select floor(extract(epoch from clock_timestamp()) * 1000)::bigint
$$;

-- What tells this life of the database from those before it: a restored copy or a promoted standby is served by
-- another process, or is another database.
create or replace function dynos.life() returns text language plpgsql stable
security definer set search_path = pg_catalog, pg_temp as $$
begin
    return (
        select concat_ws('/', m.lives, d.oid, case m.history
            when 'auto' then extract(epoch from pg_postmaster_start_time())::text end)
        from dynos.meta m, pg_database d where d.datname = current_database()
    );
end $$;

-- The number of this life, which is appended to the history if it is new.
-- An incarnation's id begins with the time at which it began: where a cursor's incarnation is unknown (the database
-- was restored from a copy that is older than it), what both histories share is what began before that time.
create or replace function dynos.incarnation() returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    known dynos.incarnation;
begin
    select * into known from dynos.incarnation order by n desc limit 1;
    if known.life is distinct from dynos.life() then
        insert into dynos.incarnation (id, life)
        values (lpad(to_hex(greatest(dynos.now_ms(), dynos.began(known.id) + 1)), 11, '0')
                || right(replace(gen_random_uuid()::text, '-', ''), 16), dynos.life())
        on conflict do nothing;
        select * into known from dynos.incarnation where life = dynos.life();
    end if;
    return known.n;
end $$;

create or replace function dynos.began(id text) returns bigint language sql immutable as $$
    select coalesce(('x' || lpad(left(id, 11), 16, '0'))::bit(64)::bigint, 0)
$$;

-- The cursor of a place in a scope's history.
drop function if exists dynos.cursor(bigint, bigint, bigint);
create or replace function dynos.cursor(place bigint, seq bigint) returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
begin
    return (
        select dynos.life_of(place, seq) || '.' || seq
    );
end $$;

-- The cursor of a place in a walk. "floor": tombstones purged up to there cannot be missed. "ends": how far the history
-- went when the page was read. What was changed again before that was not listed, and never would be, had the end been lost.
create or replace function dynos.cursor_within(place bigint, seq bigint, floor bigint, ends bigint) returns text
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select dynos.life_of(place, ends) || '.' || seq || '.' || case when floor > seq then floor else 0 end || '.' || ends
$$;

-- The incarnation in which a seq was committed.
create or replace function dynos.life_of(place bigint, wanted bigint) returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
begin
    return (
        select coalesce(
            (select i.id from dynos.epoch e join dynos.incarnation i using (n)
             where e.scope = place and e.start < wanted order by n desc limit 1),
            (select i.id from dynos.incarnation i order by n limit 1))
    );
end $$;

-- The last seq of a scope that belongs to an incarnation or an earlier one.
create or replace function dynos.ending(place bigint, incarnation bigint) returns bigint
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
begin
    return (
        select coalesce(
            (select min(start) from dynos.epoch where scope = place and n > incarnation),
            (select seq from dynos.scope where scope = place), 0)
    );
end $$;

do $$ begin
    create type dynos.standing as (fault text, seq bigint, floor bigint, common bigint);
exception when duplicate_object then null; end $$;

-- Judges a cursor. fault: null, 'malformed', 'purged', or 'rolled_back' with the newest seq that its history and
-- this one have in common.
create or replace function dynos.judge(place bigint, purged bigint, token text) returns dynos.standing
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
declare
    it dynos.standing;
    parts text[] := regexp_match(token, '^([0-9a-f]{27})\.([0-9]{1,18})(?:\.([0-9]{1,18})(?:\.([0-9]{1,18}))?)?$');
    ends bigint;
    known bigint;
begin
    if token is null then
        return row(null, 0, purged, null)::dynos.standing;
    elsif parts is null then
        return row('malformed', null, null, null)::dynos.standing;
    end if;
    it.seq := parts[2]::bigint;
    it.floor := coalesce(parts[3]::bigint, 0);
    ends := coalesce(parts[4]::bigint, it.seq);
    select n into known from dynos.incarnation where id = parts[1];
    if known is not null then
        it.common := dynos.ending(place, known);
        if ends <= it.common then
            it.common := null;
        end if;
    else
        select max(n) into known from dynos.incarnation where id < left(parts[1], 11);
        it.common := least(case when known is null then 0 else dynos.ending(place, known) end,
                           greatest(ends - 1, 0));
    end if;
    it.fault := case
        when it.common is not null then 'rolled_back'
        when purged > greatest(it.seq, it.floor) then 'purged'
    end;
    return it;
end $$;

-- To be called by an operator who has put an older copy in place without the server having been started anew.
create or replace function public.dynos_restored() returns void
language sql security definer set search_path = pg_catalog, pg_temp as $$
    update dynos.meta set lives = lives + 1;
    select dynos.incarnation();
$$;

-- The first life begins here: there is a cursor of the beginning before anything is committed.
do $$ begin perform dynos.incarnation(); end $$;
