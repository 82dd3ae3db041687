package explain

import "strings"

// mostNear is how many names are suggested.
const mostNear = 3

// Near returns the names that somebody may have meant: those that contain the
// word, or else those that differ least.
func Near(word string, names []string) []string {
	var near []string
	for _, n := range names {
		if word != "" && strings.Contains(n, strings.ToLower(word)) {
			near = append(near, n)
		}
	}
	if len(near) == 0 {
		least := 3 + len(word)/4 // more is another word
		for _, n := range names {
			switch d := distance(word, n); {
			case d < least:
				least, near = d, []string{n}
			case d == least && near != nil:
				near = append(near, n)
			}
		}
	}
	return near[:min(len(near), mostNear)]
}

// distance is how many letters have to be changed, added or left out to turn
// one word into the other.
func distance(a, b string) int {
	row := make([]int, len(b)+1) // for what was read of a, by what was read of b
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
