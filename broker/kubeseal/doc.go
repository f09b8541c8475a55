// Package kubeseal is the HTTP API that the program kubeseal asks: for the
// certificate to seal to, whether an object opens, and for an object sealed
// anew.
//
// It is reached through the API server, by everyone who has an account in the
// cluster, and asks for no name. So it must be of no use to a stranger who found
// an object, or made one: it never gives out a value; whether an object opens is
// all that it tells, with the same words whatever the cause; it renders no
// template, whose failing would tell of values; it seals anew under the label
// that the object opened with and no wider one; and it takes little memory and
// little time for whatever it is sent. Each replica answers.
package kubeseal
