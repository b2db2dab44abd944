-- Who may call what. The books are out of everybody's reach; callers get the functions of the protocol, and those that
-- these are made of.

do $$
declare
    it record;
    role text;
begin
    for it in
        select p.oid::regprocedure as signature, n.nspname || '.' || p.proname as name
        from pg_proc p join pg_namespace n on n.oid = p.pronamespace
        where n.nspname = 'dynos' or (n.nspname = 'public' and p.proname like 'dynos\_%')
    loop
        execute format('revoke all on function %s from public', it.signature);
        foreach role in array array['anon', 'authenticated', 'service_role'] loop
            if exists (select from pg_roles where rolname = role) then
                execute format('revoke all on function %s from %I', it.signature, role);
            end if;
        end loop;
    end loop;
end $$;

-- Lets a role's members sync, as the user that their token names.
create or replace function public.dynos_grant(role regrole) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    it record;
begin
    if not has_schema_privilege(role, 'dynos', 'usage') then
        execute format('grant usage on schema dynos to %s', role);
    end if;
    for it in
        select p.oid::regprocedure as signature
        from pg_proc p join pg_namespace n on n.oid = p.pronamespace
        where (n.nspname = 'public' and p.proname in ('dynos_push', 'dynos_pull', 'dynos_heads', 'dynos_declare', 'dynos_tables'))
            -- What has no rights of its own, and of what has, only what that calls.
            or (n.nspname = 'dynos' and not p.prosecdef and p.proname not in ('call', 'watch', 'reconcile'))
            or (n.nspname = 'dynos' and p.proname in ('opened', 'judged', 'pushed', 'closed', 'tracked', 'write_documents',
                'document', 'page_begun', 'newest', 'documents_changed', 'cursor', 'cursor_within', 'scope_of', 'deaths'))
    loop
        -- Not again where it has been done: each server does so at its start.
        if not has_function_privilege(role, it.signature, 'execute') then
            execute format('grant execute on function %s to %s', it.signature, role);
        end if;
    end loop;
end $$;
revoke all on function public.dynos_grant(regrole) from public;

-- Supabase's signed-in users. Nobody syncs without signing in.
do $$ begin
    if exists (select from pg_roles where rolname = 'authenticated') then
        perform public.dynos_grant('authenticated');
        execute 'revoke all on function public.dynos_grant(regrole) from anon, authenticated, service_role';
    end if;
end $$;

-- For the server: a request of a user whose token it has checked. role: the database role whose rights it has.
create or replace function dynos.call(subject text, role text, verb text, request json) returns json
language plpgsql as $$
begin
    perform set_config('request.jwt.claims',
                       json_build_object('sub', subject, 'role', coalesce(role, 'authenticated'))::text, true);
    if role is not null then
        perform set_config('role', role, true);
    end if;
    case verb
        when 'push' then
            -- The request is long: it is read once.
            return (select public.dynos_push(r.replica, r.entries, r.seen)
                    from json_to_record(request) as r (replica uuid, entries json, seen json));
        when 'pull' then
            return public.dynos_pull((request ->> 'replica')::uuid, request ->> 'table', request ->> 'cursor',
                (request ->> 'limit')::bigint, request -> 'unsettled', (request ->> 'all')::boolean,
                request ->> 'seen');
        when 'heads' then
            return public.dynos_heads((request ->> 'replica')::uuid, request -> 'tables');
        when 'declare' then
            return public.dynos_declare(request -> 'tables');
        when 'tables' then
            return public.dynos_tables();
    end case;
end $$;
revoke all on function dynos.call(text, text, text, json) from public;
