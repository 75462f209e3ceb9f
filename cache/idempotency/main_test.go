package idempotency_test

import (
	"testing"

	"github.com/go-weir/weir/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }
