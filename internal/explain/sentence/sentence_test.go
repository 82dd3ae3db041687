package sentence

import (
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestChinese(t *testing.T) {
	for english, want := range map[string]string{
		"1,503 B unread in the receive queue": "接收队列中有 1,503 B 未读",
		"nginx[4211] was killed by signal 34; 148–1,503 B unread in the receive queue; 9 B of unacknowledged output " +
			"discarded": "" +
			"nginx[4211] 被信号 34 杀死；接收队列中有 148–1,503 B 未读；丢弃 9 B 未被确认的发送数据",
		"9 B arrived 250 ms after server[7126] closed": "server[7126] 关闭 250 ms 之后到达了 9 B",
		"a segment without data arrived 900 µs–1.2 s after this side closed (x.y)": "" +
			"本端关闭 900 µs–1.2 s 之后到达了不带数据的报文（x.y）",
		"in CLOSE_WAIT, 5 ms after a b[…] closed it (x.y): no application learns of it": "" +
			"处于 CLOSE_WAIT，在 a b[…] 关闭它 5 ms 之后（x.y）：没有应用会得知",
		"closed 1.5 s after its last byte was sent, unanswered; ESTABLISHED → FIN_WAIT1": "" +
			"发出最后一个字节 1.5 s 后关闭，未得到应答；ESTABLISHED → FIN_WAIT1",
		"ICMPv6 type 9, code 2: ECONNREFUSED": "ICMPv6 类型 9，代码 2：ECONNREFUSED",
		"MPTCP rejects the segment: MPTCP_RST_EMPTCP; nothing was sent or received for 2.0 s": "" +
			"MPTCP 拒绝了报文：MPTCP_RST_EMPTCP；已有 2.0 s 没有收发任何数据",
		"1 ending in 2s":      "2s 内 1 次结束",
		"1,234 endings in 2s": "2s 内 1,234 次结束",
		"1 RST reply not listed individually (rate limit)":   "1 个 RST 回应未逐一列出（速率限制）",
		"2 RST replies not listed individually (rate limit)": "2 个 RST 回应未逐一列出（速率限制）",
		"audit: RSTs sent 3, explained 1; possible cause: 1 lost record, missing hooks (a, b)": "" +
			"对账：发送的 RST 3，已解释 1；可能的原因：1 条丢失的记录、缺少的挂载点（a, b）",
		"1,200 B and the EOF are unread; a b[7] is stopped by a debugger and is out of descriptors (12 of 12 used); " +
			"c[8] is frozen by its cgroup; others as well": "" +
			"1,200 B 和 EOF 未读；a b[7] 被调试器暂停，而且描述符已用尽（已用 12 / 12）；c[8] 被它的 cgroup 冻结；其他进程也是如此",
		"never accepted: in the accept queue of [::1]:80 (3, backlog 2), held by a[1], b[2/3]; " +
			"or in that of 1 other listener there": "" +
			"从未被 accept：仍在 [::1]:80 的全连接队列中（3 个，backlog 2），由 a[1]、b[2/3] 持有；或者在那里另外 1 个监听套接字的队列中",
		"inherited: a[2] was started by b[1], c[3] was started by b[1], which listens at :8080 and " +
			"does not hold it; 9 B unread": "" +
			"继承而来：a[2] 由 b[1] 启动、c[3] 由 b[1] 启动；启动者监听 :8080，自己并不持有它；9 B 未读",
		"the accept queue is full (3 of 2); a[1], b[2], c[3], 4 more do not accept, or too slowly": "" +
			"全连接队列已满（3 / 2）；a[1]、b[2]、c[3] 等，另有 4 个没有 accept，或者太慢",
		"closed on this side; 9 B unsent, 0 B unacknowledged after 2 retransmissions; EOF unread": "" +
			"本端已关闭；9 B 未发送，0 B 未被确认，已重传 2 次；EOF 未读",
		"FIN unacknowledged; no retransmission yet": "FIN 未被确认；尚未重传",
		"FIN unsent; the peer's receive window is closed, no window probe yet": "" +
			"FIN 未发送；对端接收窗口已关闭，尚未发送零窗口探测",
		"closed on this side; 9 B unsent, 0 B unacknowledged; the peer's receive window is closed, the kernel probes it": "" +
			"本端已关闭；9 B 未发送，0 B 未被确认；对端接收窗口已关闭，内核正在发送零窗口探测",
		"closed on this side, the peer has not closed; the kernel removes it in 1m0s": "" +
			"本端已关闭，对端尚未关闭；内核将在 1m0s 之后移除它",
		"audit skipped: what no sentence says":                 "对账跳过：what no sentence says",
		"audit skipped: the recording goes on in another file": "对账跳过：录制在另一个文件中继续",
		"audit skipped: the recording began in another file":   "对账跳过：录制从另一个文件开始",
		"a[1], 10.0.0.1:80: all data read; CLOSE_WAIT → LAST_ACK.": "" +
			"a[1]，10.0.0.1:80：数据已全部读完；CLOSE_WAIT → LAST_ACK。",
		"a[1], [2001:db8::1]:80: recv(2): EOF, then send(2): EPIPE.": "" +
			"a[1]，[2001:db8::1]:80：recv(2): EOF，然后 send(2): EPIPE。",
	} {
		if got := Chinese(english); got != want {
			t.Errorf("%s:\n got %s\nwant %s", english, got, want)
		}
	}
}

// A text that is not a sentence as a whole stays as it is: half of one would say something else.
func TestOthersStay(t *testing.T) {
	for _, text := range []string{
		"", "all data read; ", "all data read; and more", "; all data read", "all data reads", "1 B", "{n} B unread", "未读",
		"9 B arrived 250 ms after server closed", "a[1] was killed by SIGKILL, or not", "in ESTABLISHED\n; all data read",
		strings.Repeat("all data read; ", 1000) + "all data read",
	} {
		if got := Chinese(text); got != text {
			t.Errorf("%.60q became %.60q", text, got)
		}
	}
}

// A name that looks like a sentence, or like a part of one, changes nothing beside it.
func TestNamesStay(t *testing.T) {
	for _, name := range []string{"{n}", "{task}", "$1", `\1`, "a[1] closed; b", "x (y", "all data read; ", "the kernel"} {
		english := name + "[7] was killed by SIGKILL; 9 B unread"
		got := Chinese(english)
		if !strings.Contains(got, "[7]") || !strings.HasSuffix(got, "9 B 未读") && got != english {
			t.Errorf("%q became %q", english, got)
		}
	}
	for _, foreign := range []string{"serv\xffr", "\xe6\x97", "日 本"} {
		if got := Chinese(foreign + "[7] was killed by SIGKILL"); got != foreign+"[7] 被 SIGKILL 杀死" {
			t.Errorf("%q: got %q", foreign, got)
		}
	}
	if got := Chinese("{n}[7] was killed by SIGKILL"); got != "{n}[7] 被 SIGKILL 杀死" {
		t.Errorf("got %q", got)
	}
}

// Each sentence is found by its English text, with its expression alone.
func TestEachSentence(t *testing.T) {
	samples := map[string]string{
		"n": "1,234", "time": "1.5 s", "span": "15m0s", "host": "web1", "state": "CLOSE_WAIT", "caps": "ECONNRESET",
		"path": "a.b", "hook": "tcp:tcp_x", "word": "w", "address": "10.0.0.1:80", "task": "nginx[4211]",
		"process": "nginx[4211/4212]", "counter": "OutRsts", "any": "x", "hooks": "x",
		"foreign": "x", cause: "all data read", got: "EOF", deed: "timer",
	}
	var example func(b *book, english string) string
	example = func(b *book, english string) string {
		english = part.ReplaceAllStringFunc(english, func(found string) string {
			kind := part.FindStringSubmatch(found)[1]
			if in := b.sections[kind]; in != nil {
				return example(b, in.sentences[0].english)
			}
			return samples[kind]
		})
		return regexp.MustCompile(`\((?:(s)|([A-Za-z ]*)\|[A-Za-z ]*)\)`).ReplaceAllString(english, "$1$2")
	}
	b := catalog()
	sentences := 0
	for name, in := range b.sections {
		for _, s := range in.sentences {
			text := example(b, s.english)
			if s.find(text, true) == nil {
				t.Errorf("%s: %q does not match %q", name, s.english, text)
			}
			sentences++
		}
	}
	if sentences < 300 {
		t.Errorf("only %d sentences", sentences)
	}
}

func TestRead(t *testing.T) {
	for _, bad := range []string{
		"-- a --\nen: x\n-- b --\nen: y", "-- a --\nzh: x", "-- a --\nen: {n}\nzh: x", "-- a --\nen: {n} {n}\nzh: {n}",
		"-- a --\nen: x\nzh: {n}", "-- a --\nen: {nothing}\nzh: {nothing}", "-- a --\nother",
	} {
		if _, err := read(bad); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

func FuzzChinese(f *testing.F) {
	f.Add("nginx[4211] was killed by SIGKILL; 1,503 B unread in the receive queue")
	f.Add("audit: RSTs sent 3, explained 1; possible cause: 1 lost record, missing hooks (a, b)")
	f.Fuzz(func(t *testing.T, text string) {
		if got := Chinese(text); utf8.ValidString(text) && !utf8.ValidString(got) || len(got) > 8*len(text)+64 {
			t.Errorf("%q became %q", text, got)
		}
	})
}
