package explain

import (
	"slices"
	"strings"
)

// Language of the texts, as in LANG.
type Language string

// The languages that every page has.
const (
	English Language = "en"
	Chinese Language = "zh" // Simplified
)

// Languages are all of them.
var Languages = []Language{English, Chinese}

// FromLocale is the language for a locale such as zh_CN.UTF-8: English where
// there is no better one, or where the terminal would not show the characters.
func FromLocale(locale string) Language {
	name, charset, _ := strings.Cut(locale, ".")
	charset, _, _ = strings.Cut(charset, "@")
	switch strings.ToLower(strings.ReplaceAll(charset, "-", "")) {
	case "", "utf8":
		name, _, _ = strings.Cut(name, "_")
		if l := Language(name); slices.Contains(Languages, l) {
			return l
		}
	}
	return English
}

// wireTerms are the few words of the diagrams that are not of the protocol.
var wireTerms = map[Language]*strings.Replacer{
	English: strings.NewReplacer(),
	Chinese: strings.NewReplacer(
		"accept queue full", "全连接队列已满", "accept queue", "全连接队列", "keepalive probe", "保活探测",
		"output unsent", "数据未发完", "unread", "未读", "other number", "别的序号", "data", "数据",
		"after 1 s", "（1 秒后）", "returns", "返回", "router", "路由器", " or ", " 或 "),
}

// words are what is said around the texts.
var words = map[Language]map[string]string{
	English: {
		"what":      "What happens",
		"chain":     "In the kernel",
		"wire":      "On the wire",
		"here":      "What this application sees",
		"peer":      "What the peer sees",
		"harmless":  "Harmless?",
		"avoid":     "How to avoid it",
		"lab":       "How to provoke it",
		"variants":  "Variants: ",
		"counters":  "Counted in",
		"reason":    "The kernel's own reason",
		"rfc":       "Standards",
		"none":      "none; this is Linux' own",
		"see":       "Read on",
		"this":      "this side",
		"other":     "peer",
		"yes":       "Yes. ",
		"no":        "No. ",
		"depends":   "It depends. ",
		"noreason":  "None: it gives one only where this side sends RST.",
		"since":     "%s, since Linux %s",
		"or":        "; or ",
		"6.10":      ". Older kernels give none.",
		"6.12":      ". 6.10 and 6.11 say NOT_SPECIFIED, older kernels give none.",
		"catch-all": " The same name stands for SO_LINGER {1,0}, connect(AF_UNSPEC), ss -K, connections in the queue of a closing listener, and the timer of FIN_WAIT2.",
		"separator": ", ",

		"family.close":      "close(2): the last reference to a socket goes",
		"family.shutdown":   "shutdown(2)",
		"family.disconnect": "connect(AF_UNSPEC)",
		"family.abort":      "somebody else, or a timer, ends it",
		"family.reply":      "a RST in answer to a segment",
		"family.recv":       "what the other end sent",
		"family.app":        "a write that comes too late",
		"topics":            "topics, with something to try",
	},
	Chinese: {
		"what":      "发生了什么",
		"chain":     "内核中的路径",
		"wire":      "线上报文",
		"here":      "本端应用看到什么",
		"peer":      "对端看到什么",
		"harmless":  "是否无害",
		"avoid":     "如何避免",
		"lab":       "如何复现",
		"variants":  "变体：",
		"counters":  "计入的内核计数器",
		"reason":    "内核给出的原因",
		"rfc":       "相关标准",
		"none":      "无，这是 Linux 自己的行为",
		"see":       "延伸阅读",
		"this":      "本端",
		"other":     "对端",
		"yes":       "无害。",
		"no":        "有害。",
		"depends":   "视情况而定。",
		"noreason":  "无：只有本端发送 RST 时内核才会给出原因。",
		"since":     "%s，自 Linux %s 起",
		"or":        "；或 ",
		"6.10":      "。更早的内核不给出原因。",
		"6.12":      "。6.10 和 6.11 给出 NOT_SPECIFIED，更早的内核不给出原因。",
		"catch-all": "这个名字同时用于 SO_LINGER {1,0}、connect(AF_UNSPEC)、ss -K、监听套接字关闭时全连接队列中的连接，以及 FIN_WAIT2 定时器。",
		"separator": "、",

		"family.close":      "close(2)：套接字的最后一个引用被释放",
		"family.shutdown":   "shutdown(2)",
		"family.disconnect": "connect(AF_UNSPEC)",
		"family.abort":      "被他人或定时器终止",
		"family.reply":      "以 RST 回应收到的报文",
		"family.recv":       "对端发来的报文",
		"family.app":        "来得太晚的写操作",
		"topics":            "专题，附可动手的实验",
	},
}
