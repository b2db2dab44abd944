-- Takes dynos-sync out of a database. The application's tables stay, and all of their rows; what is kept as documents
-- and the history that devices follow are gone.
do $$
declare
    it record;
begin
    for it in select name from dynos.track loop
        perform public.dynos_untrack(it.name);
    end loop;
    for it in
        select p.oid::regprocedure as signature from pg_proc p
        where p.pronamespace = 'public'::regnamespace and p.proname like 'dynos\_%'
    loop
        execute format('drop function %s', it.signature);
    end loop;
end $$;
drop schema dynos cascade;
