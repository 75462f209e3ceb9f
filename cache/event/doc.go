// Package event carries events between processes.
package event
