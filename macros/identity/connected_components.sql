{#-
    Connected components by contraction.

    Every vertex points at its smallest neighbor, smaller than itself or not; the only
    cycles are pairs, whose smaller end becomes the root. Each root absorbs all vertices
    pointing to it, and each round at least halves the vertex count, whatever the
    graph's diameter. Deterministic. (A form of Borůvka's algorithm; randomized
    relatives are analyzed in arXiv 1802.09478.)

    Reads      vertices: a query giving n; edges: a query giving a, b, in either
               direction, repeats allowed
    Leaves     the temporary table `result` (n, component)
    Invariant  One row per n. Two vertices have the same component if and only if a path
               of edges connects them; the component is one of its n.
-#}
{% macro connected_components(result, vertices, edges) %}
    {% call temp_table(result) %}
        select n, n as component from ({{ vertices }})
    {% endcall %}
    {% call temp_table('contracted') %}
        select distinct a, b from ({{ edges }}) where a <> b
        union
        select distinct b, a from ({{ edges }}) where a <> b
    {% endcall %}
    {% for _ in range(64) %}
        {% if row_count('contracted') == 0 %}{% break %}{% endif %}
        {% call temp_table('nearest') %}
            select a as n, min(b) as parent from contracted group by a
        {% endcall %}
        {% call temp_table('parents') %}
            select nearest.n, case
                when theirs.parent = nearest.n and nearest.n < nearest.parent
                then nearest.n else nearest.parent
            end as parent
            from nearest
            inner join nearest as theirs on nearest.parent = theirs.n
        {% endcall %}
        {% for _ in range(64) %}
            {% call temp_table('jumped') %}
                select parents.n, further.parent, parents.parent <> further.parent as moved
                from parents
                inner join parents as further on parents.parent = further.n
            {% endcall %}
            {% call temp_table('parents') %}select n, parent from jumped{% endcall %}
            {% if row_count('jumped where moved') == 0 %}{% break %}{% endif %}
        {% endfor %}
        {% call temp_table(result) %}
            select labels.n, coalesce(parents.parent, labels.component) as component
            from {{ result }} as labels
            left join parents on labels.component = parents.n
        {% endcall %}
        {% call temp_table('contracted') %}
            select distinct lefts.parent as a, rights.parent as b
            from contracted
            inner join parents as lefts on contracted.a = lefts.n
            inner join parents as rights on contracted.b = rights.n
            where lefts.parent <> rights.parent
        {% endcall %}
    {% endfor %}
{% endmacro %}
