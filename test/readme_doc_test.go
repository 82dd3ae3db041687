package test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// sections are the headings of the README, in its languages.
var sections = [][2]string{
	{"# closetrace", "# closetrace"},
	{"## Two commands", "## 两条命令"},
	{"## Use", "## 用法"},
	{"### When something is wrong", "### 遇到问题时"},
	{"## What does not end", "## 没有结束的连接"},
	{"## What it tells apart", "## 它能分辨什么"},
	{"## What it needs", "## 需要什么"},
	{"### Without full root", "### 不用完整的 root 权限"},
	{"## What it costs", "## 代价"},
	{"## Beside other tools", "## 和其他工具相比"},
	{"## Limits", "## 局限"},
	{"## Is it right?", "## 它说得对吗"},
	{"## More", "## 更多"},
	{"## License", "## 许可"},
}

// The README says the same in each language: section by section, with the same
// commands, and what it costs with the same figures.
func TestReadmesAgree(t *testing.T) {
	var texts [2]string
	for i, file := range []string{"../README.md", "../README.zh.md"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		texts[i] = string(text)
		var want []string
		for _, s := range sections {
			want = append(want, s[i])
		}
		if got := regexp.MustCompile("(?m)^#+ [^\n]*$").FindAllString(outsideOfBlocks(texts[i]), -1); !slices.Equal(got, want) {
			t.Errorf("%s has the sections\n%s\nwant\n%s", file, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	for i, s := range sections {
		en, zh := section(texts[0], s[0]), section(texts[1], s[1])
		if s[0] == "## Use" || s[0] == "### When something is wrong" {
			same(t, s[0], commands(en), commands(zh))
		}
		if s[0] == "## What it costs" {
			figure := regexp.MustCompile(`\d+(,\d{3})*`)
			same(t, s[0], figure.FindAllString(en, -1), figure.FindAllString(zh, -1))
		}
		if len(en) == 0 || len(zh) == 0 {
			t.Errorf("section %d, %s, is empty", i, s[0])
		}
	}
}

// outsideOfBlocks leaves out what stands between fences, where # is a comment.
func outsideOfBlocks(text string) string {
	return regexp.MustCompile("(?ms)^```.*?^```$").ReplaceAllString(text, "")
}

// section is what stands below a heading, until the next.
func section(text, heading string) string {
	_, after, _ := strings.Cut("\n"+text, "\n"+heading+"\n")
	if next := regexp.MustCompile("(?m)^##+ ").FindStringIndex(after); next != nil {
		after = after[:next[0]]
	}
	return after
}

// commands are those in backquotes and in blocks, without comments and order.
func commands(text string) []string {
	var all []string
	for _, command := range regexp.MustCompile("(?m)(?:^|`)((?:sudo )?closetrace[^`\n#]*|ss -[^`\n#]*)").FindAllStringSubmatch(text, -1) {
		if words := strings.TrimSpace(command[1]); strings.Contains(words, " ") {
			all = append(all, words)
		}
	}
	return all
}

func same(t *testing.T, where string, en, zh []string) {
	t.Helper()
	slices.Sort(en)
	slices.Sort(zh)
	if len(en) == 0 || !slices.Equal(en, zh) {
		t.Errorf("%s:\n%s\nin Chinese:\n%s", where, strings.Join(en, "\n"), strings.Join(zh, "\n"))
	}
}
