package explain

import "strings"

// maxSuggestions is how many names Suggest returns at most.
const maxSuggestions = 3

// Suggest returns the names that a mistyped word may stand for: those that contain it, or else those with the
// smallest edit distance. It returns none if all are too different: more than one letter and another one for every
// six.
func Suggest(word string, names []string) []string {
	var found []string
	lower := strings.ToLower(word)
	for _, n := range names {
		if word != "" && strings.Contains(strings.ToLower(n), lower) {
			found = append(found, n)
		}
	}
	if len(found) == 0 {
		least := 2 + len(strings.TrimLeft(word, "-"))/6 // as great a distance is another word
		for _, n := range names {
			switch d := distance(lower, strings.ToLower(n)); {
			case d < least:
				least, found = d, []string{n}
			case d == least && found != nil:
				found = append(found, n)
			}
		}
	}
	return found[:min(len(found), maxSuggestions)]
}

// distance returns the edit distance of two words in bytes, in which two neighbours that changed places are one edit.
func distance(a, b string) int {
	rows := [3][]int{} // distances of the last prefixes of a to each prefix of b: two before, one before, this one
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
	}
	for j := range rows[2] {
		rows[2][j] = j
	}
	for i := range len(a) {
		rows[0], rows[1], rows[2] = rows[1], rows[2], rows[0]
		before, row := rows[1], rows[2]
		row[0] = i + 1
		for j := range len(b) {
			change := before[j]
			if a[i] != b[j] {
				change++
			}
			row[j+1] = min(change, before[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], rows[0][j-1]+1)
			}
		}
	}
	return rows[2][len(b)]
}
