-- People open to advertising, active in the last two months but not in the last one.
select profile_id
from {{ ref('profiles') }}
where
    email is not null
    and profile_id in (
        {{ audience(
            all_of=[active(within_days=60), consented('advertising')],
            none_of=[active(within_days=30)],
        ) }}
    )
