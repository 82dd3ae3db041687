package fleet

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// sqlProgram runs the SQL of its first argument on the endings of its second, a file of JSON lines.
const sqlProgram = `
const { DuckDBInstance } = require(process.argv[2] + '/node_modules/@duckdb/node-api')
const fs = require('fs')
;(async () => {
  const c = await (await DuckDBInstance.create(':memory:')).connect()
  await c.run("CREATE TABLE closetrace_endings AS SELECT * FROM read_json('" + process.argv[4] + "', columns = {" +
    "time: 'VARCHAR', host: 'VARCHAR', connection_id: 'VARCHAR', path: 'VARCHAR', state_before: 'VARCHAR'," +
    "fin: 'BOOLEAN', rst: 'BOOLEAN', workload: 'VARCHAR', cause: 'VARCHAR', collapsed: 'UBIGINT'})")
  const result = await c.runAndReadAll(fs.readFileSync(process.argv[3], 'utf8'))
  for (const row of result.getRowObjectsJson()) console.log(JSON.stringify(row))
})().catch(e => { console.error(e); process.exit(1) })`

// sql checks the SQL of deploy/clickhouse on the endings in the store, in the dialect of DuckDB.
func (f *fleet) sql(t *testing.T) {
	modules := npmModules(t, duckDB)
	dir := t.TempDir()
	var lines strings.Builder
	encoder := json.NewEncoder(&lines)
	for _, row := range f.ask(t, `event_name:="closetrace.tcp.ending"`) {
		encoder.Encode(map[string]any{
			"time": row["_time"], "host": row["host.name"], "connection_id": row["closetrace.connection_id"],
			"path": row["closetrace.path"], "state_before": row["closetrace.state.before"],
			"fin": row["closetrace.fin"] == "true", "rst": row["closetrace.rst"] == "true",
			"workload": row["closetrace.workload"], "cause": row["_msg"], "collapsed": number(row["closetrace.collapsed"]),
		})
	}
	endings, script := filepath.Join(dir, "endings.json"), filepath.Join(dir, "sql.js")
	for file, text := range map[string]string{endings: lines.String(), script: sqlProgram} {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	query := func(name string) []map[string]string {
		return rows(t, []byte(output(t, "", "node", script, modules, "../../deploy/clickhouse/"+name, endings)))
	}
	joined := map[string]int{}
	for _, row := range query("both_ends.sql") {
		joined[row["first"]+" "+row["path"]+" "+row["other"]+" "+row["other_path"]]++
	}
	if want := f.joined(); !reflect.DeepEqual(joined, want) {
		t.Errorf("joined\n%v\nwant\n%v", joined, want)
	}
	top := map[string]string{}
	for _, row := range query("top_causes.sql") {
		top[row["workload"]+" "+row["path"]] = row["endings"]
	}
	if key := workloadOf(serverName) + " close.rst.unread"; top[key] != fmt.Sprint(f.total(serverLeavesUnread)) {
		t.Errorf("%s: %q in %v", key, top[key], top)
	}
}

// joined is how often both_ends.sql is to join two ends, by the hosts and paths of the row.
func (f *fleet) joined() map[string]int {
	all := map[string]int{}
	for host, made := range f.made {
		for _, c := range made {
			kind := first[c.Kind]
			one, other := host, serverHost
			if kind.atServer {
				one, other = serverHost, host
			}
			all[one+" "+kind.path+" "+other+" "+kind.other]++
		}
	}
	return all
}
