-- Forgetting what has outlived its retention.

-- Forgets a bounded number of tombstones and outcomes: call again while "more" is true. The times are in milliseconds
-- since 1970; by default the retentions of dynos.meta decide.
create or replace function public.dynos_purge(
    tombstones_before bigint default null, outcomes_before bigint default null, most integer default 1000
) returns json language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    tombstones bigint;
    outcomes bigint;
    since constant timestamptz := clock_timestamp();
begin
    tombstones_before := coalesce(tombstones_before, (select extract(epoch from since - m.tombstones) * 1000 from dynos.meta m));
    outcomes_before := coalesce(outcomes_before, (select extract(epoch from since - m.outcomes) * 1000 from dynos.meta m));
    -- Records that are being re-created are passed over: whoever does so may be waiting for the table's row.
    with old as (
        select tab, id from dynos.change where dead and stored < tombstones_before
        order by stored limit most for update skip locked
    ), gone as (
        delete from dynos.change c using old where c.tab = old.tab and c.id = old.id returning c.tab, c.seq
    ), noted as (
        -- A cursor that is older than a forgotten tombstone cannot be continued from.
        update dynos.tab b set purged = greatest(b.purged, g.seq)
        from (select tab, max(seq) as seq from gone group by tab) g where b.tab = g.tab
    )
    select count(*) into tombstones from gone;
    with old as (
        select writer, counter from dynos.outcome where stored < outcomes_before
        order by stored limit most for update skip locked
    )
    delete from dynos.outcome o using old where o.writer = old.writer and o.counter = old.counter;
    get diagnostics outcomes = row_count;
    return json_build_object('tombstones', tombstones, 'outcomes', outcomes,
                             'more', tombstones >= most or outcomes >= most);
end $$;
