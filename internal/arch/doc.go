// Package arch holds the import rules of the house: which room may use which.
// It has no code of its own; its test reads the imports of every package in the
// module and fails on one that the rules forbid.
package arch
