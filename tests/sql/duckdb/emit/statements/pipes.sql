FROM people |> WHERE id > 1 |> AGGREGATE COUNT(*) AS n, SUM(id) AS s GROUP BY team |> WHERE n > 0 |> ORDER BY n DESC, s |> LIMIT 2;
FROM people |> EXTEND id * 2 AS twice |> SET name = UPPER(name) |> DROP score |> RENAME twice AS double |> SELECT id, name, double;
FROM people |> JOIN teams USING (team) |> AS x |> SELECT x.id, x.city;
FROM people |> SELECT id |> UNION ALL (SELECT 100), (SELECT 200);
FROM people |> ASSERT id > 0 |> SELECT id;
FROM people |> WHERE id > 2 |> ASSERT id > 2 |> WHERE id > 3 |> SELECT id;
