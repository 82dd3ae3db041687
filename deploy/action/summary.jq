# Prints the endings as a table for the job's summary, the most frequent reasons first. Cells are escaped as HTML,
# because Markdown is not read inside a table of HTML.
def cell: "<td>\(. // "" | tostring | gsub("[\r\n]"; " ") | @html)</td>";
def process: .actor // .owner | if . then "\(.comm)[\(.pid)]" else "kernel" end;

group_by([.path, .cause, process]) | sort_by(-length) as $rows
| ($rows | map(length) | add // 0) as $endings
| "### closetrace: \($endings) \(if $endings == 1 then "ending matches" else "endings match" end)",
  "",
  if $rows == [] then "No connection of the command ended as in `\($fail_on | gsub("[`\n]"; " "))`."
  else
    "<table><tr><th>times</th><th>path</th><th>process</th><th>reason</th><th>local</th><th>remote</th></tr>",
    ($rows[:$most][] | "<tr>" +
      ([length, .[0].path, (.[0] | process), .[0].cause, .[0].local, .[0].remote] | map(cell) | add) + "</tr>"),
    "</table>",
    if ($rows | length) > $most then "", "\(($rows | length) - $most) more rows are in the file of the endings."
    else empty end
  end
