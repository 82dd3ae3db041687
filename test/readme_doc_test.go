package test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// sections lists the headings of the README in English and Chinese.
var sections = [][2]string{
	{"# closetrace", "# closetrace"},
	{"## Install", "## 安装"},
	{"## What is seen, and what to try first", "## 看到什么，先试什么"},
	{"## Use", "## 用法"},
	{"## Sockets that have not ended", "## 没有结束的套接字"},
	{"## Paths", "## 路径"},
	{"## Requirements", "## 系统要求"},
	{"## Cost", "## 开销"},
	{"## Other tools", "## 其他工具"},
	{"## Limits", "## 局限"},
	{"## Verification", "## 验证"},
	{"## More", "## 更多"},
	{"## License", "## 许可"},
}

// The README is short enough to be read.
func TestReadmeIsShort(t *testing.T) {
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	if len(text) > 8<<10 {
		t.Errorf("README.md has %d bytes, at most 8 KB are allowed", len(text))
	}
}

// The README has the same sections in both languages, with the same commands and the same figures for the cost.
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
		if got := regexp.MustCompile("(?m)^#+ [^\n]*$").FindAllString(outsideOfBlocks(texts[i]), -1); !slices.Equal(
			got,
			want,
		) {
			t.Errorf("%s has the sections\n%s\nwant\n%s", file, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	for i, s := range sections {
		en, zh := section(texts[0], s[0]), section(texts[1], s[1])
		if s[0] == "## Use" || s[0] == "## What is seen, and what to try first" {
			same(t, s[0], commands(en), commands(zh))
		}
		if s[0] == "## Cost" {
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
	pattern := regexp.MustCompile("(?m)(?:^|`)((?:sudo )?closetrace[^`\n#]*|ss -[^`\n#]*)")
	for _, command := range pattern.FindAllStringSubmatch(text, -1) {
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
