package proc

import (
	"os"
	"runtime"
	"testing"
	"time"
)

func TestStatCountsUserAndSystemTimeWhateverTheProgramIsCalled(t *testing.T) {
	for _, name := range []string{"snakes", "a b", "c) R 1 (d", ")"} {
		text := "42 (" + name + ") S 1 42 42 0 -1 4194560 1 2 3 4 150 50 7 8 20 0 9 0 100 200 300"
		got, err := parseStat([]byte(text))
		if want := 2 * time.Second; err != nil || got != want {
			t.Errorf("%q: got %v, %v; want %v", name, got, err, want)
		}
	}
}

func TestStatThatIsNoneIsAnError(t *testing.T) {
	for _, text := range []string{"", "42", "42 (a", "42 (a) S 1 2", "42 (a) S 1 42 42 0 -1 4194560 1 2 3 4 x 50"} {
		if got, err := parseStat([]byte(text)); err == nil {
			t.Errorf("%q: got %v, want an error", text, got)
		}
	}
}

func TestNumberIsOfTheLineWithThatNameOnly(t *testing.T) {
	io := "rchar: 1\ncancelled_write_bytes: 3\nwrite_bytes: 12345\n"
	if got, err := number([]byte(io), "write_bytes:"); err != nil || got != 12345 {
		t.Errorf("got %d, %v; want 12345", got, err)
	}
	if got, err := number([]byte("VmHWM:\t 9 kB\nVmRSS:\t    2168 kB\n"), "VmRSS:"); err != nil || got != 2168 {
		t.Errorf("got %d, %v; want 2168", got, err)
	}
	for _, text := range []string{"", "VmRSS:", "VmRSS: x kB", "XVmRSS: 1"} {
		if got, err := number([]byte(text), "VmRSS:"); err == nil {
			t.Errorf("%q: got %d, want an error", text, got)
		}
	}
}

func TestUsageOfThisProcess(t *testing.T) {
	if runtime.GOOS != "linux" {
		if _, err := Of(os.Getpid()); err == nil {
			t.Error("got no error where there is no /proc")
		}
		return
	}
	begun := time.Now()
	before, err := Of(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if before.RSS < 1<<20 {
		t.Errorf("RSS: got %d bytes, want more than a MiB", before.RSS)
	}
	for time.Since(begun) < 10*time.Second {
		after, err := Sum([]int{os.Getpid(), os.Getpid()})
		if err != nil {
			t.Fatal(err)
		}
		if after.CPU-2*before.CPU >= 2*tick {
			return
		}
	}
	t.Error("ten seconds of work took no processor time")
}

func TestAProcessThatIsGoneIsAnError(t *testing.T) {
	if _, err := Sum([]int{1 << 30}); err == nil {
		t.Error("got no error")
	}
}
