package generate

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

const (
	maxPolicy = 4096
	maxRules  = 16
)

// parsePolicy reads a password policy as Vault has them:
//
//	length = 24
//	rule "charset" {
//	  charset   = "abcdefghijklmnopqrstuvwxyz"
//	  min-chars = 1
//	}
//
// That is a small part of HCL. What is not in it is refused by its name and its
// line, since a rule that is skipped would be a policy that is broken.
// https://developer.hashicorp.com/vault/docs/concepts/password-policies
func parsePolicy(text string) (length int, rules []rule, err error) {
	if len(text) > maxPolicy {
		return 0, nil, fmt.Errorf("it has more than %d bytes", maxPolicy)
	}
	tokens, err := tokenize(text)
	if err != nil {
		return 0, nil, err
	}
	p := policy{tokens: tokens}
	for p.peek().kind != end {
		if err := p.statement(); err != nil {
			return 0, nil, err
		}
	}
	switch {
	case p.length == 0:
		return 0, nil, errors.New(`it has no "length"`)
	case len(p.rules) == 0:
		return 0, nil, errors.New(`it has no rule "charset"`)
	}
	return p.length, p.rules, nil
}

// policy as far as it is read.
type policy struct {
	tokens []token
	length int
	rules  []rule
}

func (p *policy) peek() token { return p.tokens[0] }

// take is the next token, which has to be of a kind.
func (p *policy) take(kind kind) (token, error) {
	next := p.tokens[0]
	if next.kind != kind {
		return token{}, fmt.Errorf("line %d: want %s, and there is %s", next.line, kind, next)
	}
	if kind != end {
		p.tokens = p.tokens[1:]
	}
	return next, nil
}

// statement is a length or a rule.
func (p *policy) statement() error {
	name, err := p.take(word)
	if err != nil {
		return err
	}
	switch name.text {
	case "length":
		if p.length != 0 {
			return fmt.Errorf(`line %d: "length" is given twice`, name.line)
		}
		p.length, err = p.number(name, 1, maxLength)
		return err
	case "rule":
		return p.rule()
	}
	return fmt.Errorf(`line %d: %q is not understood; length and rule "charset" are`, name.line, name.text)
}

func (p *policy) rule() error {
	name, err := p.take(text)
	if err != nil {
		return err
	}
	if name.text != "charset" {
		return fmt.Errorf(`line %d: rule %q is not understood; rule "charset" is`, name.line, name.text)
	}
	if len(p.rules) == maxRules {
		return fmt.Errorf("line %d: there are more than %d rules", name.line, maxRules)
	}
	if _, err := p.take(open); err != nil {
		return err
	}
	r := rule{name: fmt.Sprintf("the charset of line %d", name.line)}
	given := map[string]bool{}
	for p.peek().kind != closed {
		attribute, err := p.take(word)
		if err != nil {
			return err
		}
		if given[attribute.text] {
			return fmt.Errorf("line %d: %q is given twice", attribute.line, attribute.text)
		}
		given[attribute.text] = true
		if err := p.attribute(&r, attribute); err != nil {
			return err
		}
	}
	if !given["charset"] {
		return fmt.Errorf(`line %d: the rule has no "charset"`, name.line)
	}
	p.rules = append(p.rules, r)
	_, err = p.take(closed)
	return err
}

// attribute of a rule.
func (p *policy) attribute(r *rule, name token) (err error) {
	switch name.text {
	case "charset":
		r.characters, err = p.charset()
	case "min-chars":
		r.minimum, err = p.number(name, 0, maxLength)
	default:
		err = fmt.Errorf("line %d: %q is not understood in a rule; charset and min-chars are", name.line, name.text)
	}
	if err == nil && p.peek().kind == comma {
		_, err = p.take(comma)
	}
	return err
}

func (p *policy) number(name token, least, most int) (int, error) {
	if _, err := p.take(equals); err != nil {
		return 0, err
	}
	given, err := p.take(digit)
	if err != nil {
		return 0, err
	}
	value, err := strconv.Atoi(given.text)
	if err != nil || value < least || value > most {
		return 0, fmt.Errorf("line %d: %q is %.20s; want %d to %d", given.line, name.text, given.text, least, most)
	}
	return value, nil
}

func (p *policy) charset() (string, error) {
	if _, err := p.take(equals); err != nil {
		return "", err
	}
	given, err := p.take(text)
	if err != nil {
		return "", err
	}
	if given.text == "" {
		return "", fmt.Errorf(`line %d: "charset" is empty`, given.line)
	}
	for _, character := range given.text {
		if character != ' ' && !strings.ContainsRune(lower+upper+digits+punctuation, character) {
			return "", fmt.Errorf(`line %d: "charset" has %q; only printable ASCII is understood`, given.line, character)
		}
	}
	return given.text, nil
}
