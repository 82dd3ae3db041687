package explain

import (
	"slices"
	"strings"

	"github.com/closetrace/closetrace/internal/explain/sentence"
)

// Language is a language of the texts, named as in LANG.
type Language string

// Every page has these languages.
const (
	English Language = "en"
	Chinese Language = "zh" // Simplified
)

// Languages lists all languages.
var Languages = []Language{English, Chinese}

// FromLocale returns the language for a locale such as zh_CN.UTF-8. It returns English if there is no page in that
// language, or if the charset cannot show its characters.
func FromLocale(locale string) Language {
	if l, ok := ParseLanguage(locale); ok {
		return l
	}
	return English
}

// ParseLanguage returns the language of a tag such as zh-Hans or of a locale such as zh_CN.UTF-8.
func ParseLanguage(tag string) (Language, bool) {
	name, charset, _ := strings.Cut(strings.ToLower(tag), ".")
	charset, _, _ = strings.Cut(charset, "@")
	name, _, _ = strings.Cut(strings.ReplaceAll(name, "-", "_"), "_")
	name, _, _ = strings.Cut(name, "@")
	utf8 := charset == "" || strings.ReplaceAll(charset, "-", "") == "utf8"
	return Language(name), utf8 && slices.Contains(Languages, Language(name))
}

// Say returns what says an English sentence of closetrace in the language, nil for English.
func (l Language) Say() func(string) string {
	if l == Chinese {
		return sentence.Chinese
	}
	return nil
}

// wireTerms translates the words in the diagrams that are not terms of the protocol.
var wireTerms = map[Language]*strings.Replacer{
	English: strings.NewReplacer(),
	Chinese: strings.NewReplacer(
		"accept queue full", "全连接队列已满", "accept queue", "全连接队列", "keepalive probe", "保活探测",
		"output unsent", "数据未发完", "unread", "未读", "other number", "别的序号", "data", "数据",
		"returns 0 after 1 s", "1 秒后返回 0", "returns", "返回", "router", "路由器", " or ", " 或 "),
}

// words are the headings and phrases around the texts of the pages.
var words = map[Language]map[string]string{
	English: {
		"what":     "What happens",
		"chain":    "In the kernel",
		"wire":     "On the wire",
		"here":     "What this application sees",
		"peer":     "What the peer sees",
		"harmless": "Harmless?",
		"avoid":    "How to avoid it",
		"lab":      "How to provoke it",
		"variants": "Variants: ",
		"counters": "Counted in",
		"reason":   "The kernel's own reason",
		"rfc":      "Standards",
		"none":     "none; this is specific to Linux",
		"see":      "Read on",
		"this":     "this side",
		"other":    "peer",
		"yes":      "Yes. ",
		"no":       "No. ",
		"noreason": "None: the kernel gives a reason only when this side sends a RST.",
		"since":    "%s, since Linux %s",
		"or":       "; or ",
		"6.10":     ". Older kernels give none.",
		"6.12":     ". 6.10 and 6.11 give NOT_SPECIFIED, older kernels give none.",
		"catch-all": " TCP_STATE also covers SO_LINGER {1,0}, connect(AF_UNSPEC), ss -K, connections in the accept queue " +
			"of a listener that is closed, and the timer of FIN_WAIT2.",
		"separator": ", ",

		"if.sent":    " (if a RST is sent)",
		"if.open":    " (from ESTABLISHED or CLOSE_WAIT)",
		"if.linger0": " (with SO_LINGER {1,0})",

		"family.close":      "close(2): the last reference to a socket is released",
		"family.shutdown":   "shutdown(2)",
		"family.disconnect": "connect(AF_UNSPEC)",
		"family.abort":      "ended by a timer or by another process",
		"family.reply":      "a RST sent in reply to a segment",
		"family.recv":       "a FIN, a RST or an ICMP error received",
		"family.app":        "calls without effect: failed writes, close(2) on a shared descriptor",
		"topics":            "topics, with experiments",

		"state":    "TCP state",
		"counter":  "kernel counter",
		"resetby":  "the kernel's reason for a RST",
		"option":   "socket option, flag or sysctl",
		"by":       "printed by ",
		"like":     "as %s, printed by %s",
		"mentions": "named by these pages",
		"group":    "paths that begin with it",
		"moves":    "Paths that move it",
		"paths":    "Paths",
		"next":     "Next",
	},
	Chinese: {
		"what":     "发生了什么",
		"chain":    "内核中的路径",
		"wire":     "报文交互",
		"here":     "本端应用看到什么",
		"peer":     "对端看到什么",
		"harmless": "是否无害",
		"avoid":    "如何避免",
		"lab":      "如何复现",
		"variants": "变体：",
		"counters": "计入的内核计数器",
		"reason":   "内核给出的原因",
		"rfc":      "相关标准",
		"none":     "无，这是 Linux 特有的行为",
		"see":      "延伸阅读",
		"this":     "本端",
		"other":    "对端",
		"yes":      "无害。",
		"no":       "有害。",
		"noreason": "无：只有本端发送 RST 时内核才会给出原因。",
		"since":    "%s，自 Linux %s 起",
		"or":       "；或 ",
		"6.10":     "。更早的内核不给出原因。",
		"6.12":     "。6.10 和 6.11 给出 NOT_SPECIFIED，更早的内核不给出原因。",
		"catch-all": "TCP_STATE 也用于 SO_LINGER {1,0}、connect(AF_UNSPEC)、ss -K、" +
			"监听套接字关闭时全连接队列中的连接，以及 FIN_WAIT2 定时器。",
		"separator": "、",

		"if.sent":    "（仅在发送 RST 时）",
		"if.open":    "（此前处于 ESTABLISHED 或 CLOSE_WAIT 时）",
		"if.linger0": "（设置了 SO_LINGER {1,0} 时）",

		"family.close":      "close(2)：套接字的最后一个引用被释放",
		"family.shutdown":   "shutdown(2)",
		"family.disconnect": "connect(AF_UNSPEC)",
		"family.abort":      "被定时器或其他进程终止",
		"family.reply":      "以 RST 回应收到的报文",
		"family.recv":       "收到的 FIN、RST 或 ICMP 错误",
		"family.app":        "无效的写与未生效的关闭",
		"topics":            "专题，附实验",

		"state":    "TCP 状态",
		"counter":  "内核计数器",
		"resetby":  "内核给出的 RST 原因",
		"option":   "套接字选项、标志或 sysctl",
		"by":       "打印者：",
		"like":     "同 %s（打印者：%s）",
		"mentions": "以下页面提到了它",
		"group":    "以它开头的路径",
		"moves":    "使它增加的路径",
		"paths":    "相关路径",
		"next":     "下一步",
	},
}
