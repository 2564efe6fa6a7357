-- An alias whose old id is a profile of today, or that leads to another alias or nowhere.
{{ config(meta={'dagster': {'ref': {'name': 'profile_aliases'}}}) }}

with

aliases as (

    select * from {{ ref('profile_aliases') }}

),

profiles as (

    select profile_id from {{ ref('profiles') }}

)

select *
from aliases
where
    old_profile_id in (select profile_id from profiles)
    or profile_id in (select old_profile_id from aliases)
    or profile_id not in (select profile_id from profiles)
