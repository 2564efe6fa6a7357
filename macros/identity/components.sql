{#-
    Connected components by contraction.

    `nodes`: a query giving n; `edges`: a query giving a, b (either direction, repeats
    allowed). Leaves the scratch table `result` (n, component).

    Every vertex points at its smallest neighbour, smaller than itself or not; the only
    cycles are pairs, whose smaller end becomes the root. Each root takes in all that
    point to it, and the vertex count at least halves a round, whatever the graph's
    diameter. No randomness: the same answer each time. (The form of Borůvka's algorithm;
    randomised relatives are analysed in arXiv 1802.09478.)
-#}
{% macro connected_components(result, nodes, edges) %}
    {% do scratch(result, "select n, n as component from (" ~ nodes ~ ")") %}
    {% do scratch('contracted', "
        select distinct a, b from (" ~ edges ~ ") where a <> b
        union
        select distinct b, a from (" ~ edges ~ ") where a <> b
    ") %}
    {% for _ in range(64) %}
        {% if scratch_count('contracted') == 0 %}{% break %}{% endif %}
        {% do scratch('nearest', "
            select a as n, min(b) as parent from contracted group by a
        ") %}
        {% do scratch('parents', "
            select nearest.n, case
                when theirs.parent = nearest.n and nearest.n < nearest.parent
                then nearest.n else nearest.parent
            end as parent
            from nearest
            inner join nearest as theirs on nearest.parent = theirs.n
        ") %}
        {% for _ in range(64) %}
            {% do scratch('jumped', "
                select parents.n, further.parent, parents.parent <> further.parent as moved
                from parents
                inner join parents as further on parents.parent = further.n
            ") %}
            {% do scratch('parents', "select n, parent from jumped") %}
            {% if scratch_count('jumped where moved') == 0 %}{% break %}{% endif %}
        {% endfor %}
        {% do scratch(result, "
            select labels.n, coalesce(parents.parent, labels.component) as component
            from " ~ result ~ " as labels
            left join parents on labels.component = parents.n
        ") %}
        {% do scratch('contracted', "
            select distinct lefts.parent as a, rights.parent as b
            from contracted
            inner join parents as lefts on contracted.a = lefts.n
            inner join parents as rights on contracted.b = rights.n
            where lefts.parent <> rights.parent
        ") %}
    {% endfor %}
{% endmacro %}
