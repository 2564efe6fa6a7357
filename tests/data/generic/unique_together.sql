-- A combination of values that more than one row has.
{% test unique_together(model, columns) %}
select
    {%- for column in columns %}
    {{ column }},
    {%- endfor %}
    count(*) as count_rows
from {{ model }}
group by {{ columns | join(', ') }}
having count(*) > 1
{% endtest %}
