package generate

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// kind of a token, by the name that an error gives it.
type kind string

const (
	word   kind = "a name"
	text   kind = "a text in quotes"
	digit  kind = "a number"
	equals kind = `"="`
	open   kind = `"{"`
	closed kind = `"}"`
	comma  kind = `","`
	end    kind = "the end"
)

// token of a policy.
type token struct {
	kind kind
	text string
	line int
}

func (t token) String() string {
	if t.text == "" || t.kind == text {
		return string(t.kind)
	}
	return strconv.Quote(t.text)
}

// tokenize a policy; the last token is the end.
func tokenize(policy string) ([]token, error) {
	var tokens []token
	line := 1
	for rest := policy; ; {
		skipped, err := blank(rest)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
		line += strings.Count(rest[:skipped], "\n")
		if rest = rest[skipped:]; rest == "" {
			return append(tokens, token{kind: end, line: line}), nil
		}
		next, taken, err := scan(rest)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
		next.line = line
		tokens, rest = append(tokens, next), rest[taken:]
	}
}

// blank is how many bytes of spaces and comments there are.
func blank(policy string) (int, error) {
	for at := 0; ; {
		rest := policy[at:]
		switch {
		case rest == "":
			return at, nil
		case strings.IndexByte(" \t\r\n", rest[0]) >= 0:
			at++
		case rest[0] == '#', strings.HasPrefix(rest, "//"):
			length := strings.IndexByte(rest, '\n')
			if length < 0 {
				return len(policy), nil
			}
			at += length
		case strings.HasPrefix(rest, "/*"):
			length := strings.Index(rest[2:], "*/")
			if length < 0 {
				return 0, errors.New("the comment does not end")
			}
			at += length + 4
		default:
			return at, nil
		}
	}
}

// scan the token at the beginning, which is not blank.
func scan(policy string) (next token, taken int, err error) {
	for _, sign := range []struct {
		text string
		kind kind
	}{{"=", equals}, {"{", open}, {"}", closed}, {",", comma}} {
		if strings.HasPrefix(policy, sign.text) {
			return token{kind: sign.kind, text: sign.text}, 1, nil
		}
	}
	if policy[0] == '"' {
		return quoted(policy)
	}
	if taken := run(policy, digits); taken > 0 {
		return token{kind: digit, text: policy[:taken]}, taken, nil
	}
	if taken := run(policy, lower+upper+digits+"_-"); taken > 0 && policy[0] != '-' {
		return token{kind: word, text: policy[:taken]}, taken, nil
	}
	return token{}, 0, fmt.Errorf("%q is not understood", []rune(policy)[0])
}

// run is how many of the characters there are at the beginning.
func run(policy, characters string) int {
	return len(policy) - len(strings.TrimLeft(policy, characters))
}

// quoted is a text in quotes. HCL would take "${" for the beginning of something
// to be filled in.
func quoted(policy string) (next token, taken int, err error) {
	for at := 1; at < len(policy) && policy[at] != '\n'; at++ {
		switch policy[at] {
		case '\\':
			at++
		case '"':
			content, err := strconv.Unquote(policy[:at+1])
			if err != nil {
				return token{}, 0, errors.New(`a text has a "\" that is not understood`)
			}
			if strings.Contains(content, "${") {
				return token{}, 0, errors.New(`"${" is not understood; write the two characters in another order`)
			}
			return token{kind: text, text: content}, at + 1, nil
		}
	}
	return token{}, 0, errors.New("a text does not end on its line")
}
