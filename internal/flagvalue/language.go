package flagvalue

import "github.com/closetrace/closetrace/internal/explain"

// Language is a language of texts.
type Language struct{ Choice[explain.Language] }

// LanguageOf returns the value of a flag that sets a language.
func LanguageOf(l *explain.Language) Language { return Language{OneOf(l, explain.Languages...)} }

// Set accepts the tag of a language, or a locale.
func (l Language) Set(text string) error {
	if known, ok := explain.ParseLanguage(text); ok {
		text = string(known)
	}
	return l.Choice.Set(text)
}
