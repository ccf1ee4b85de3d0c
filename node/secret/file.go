package secret

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// Read returns the secrets in the file at path. Errors say what is wrong with the file and, where a command mends it,
// which; they hold nothing of what is in it.
func Read(path string) (Set, error) {
	text, err := ReadFile(path)
	if err != nil {
		return Set{}, fmt.Errorf("secret file: %w", err)
	}
	set, err := Parse(text)
	if err != nil {
		return Set{}, fmt.Errorf("secret file %s: %w", path, err)
	}
	return set, nil
}

// MaxFile is the size in bytes of the largest file of secrets that is read.
const MaxFile = 256 << 10

// ReadFile returns what is in a file that nobody but its owner may be able to read: secrets of any kind. The error is
// that it cannot be read, is open to others, with the command that mends it, or has more than MaxFile bytes.
func ReadFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat() // of what is open, not of what may have taken its name since
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no file", path)
	}
	if problem := exposed(info); problem != "" {
		return nil, fmt.Errorf("%s %s; run: chmod 600 %s", path, problem, path)
	}
	text, err := io.ReadAll(io.LimitReader(file, MaxFile+1))
	if err == nil && len(text) > MaxFile {
		err = fmt.Errorf("%s has more than %d bytes", path, MaxFile)
	}
	return text, err
}

// Create writes a new secret to a new file at path, which its owner alone can read. If there is something at path
// already it is left as it is, and the error wraps fs.ErrExist.
func Create(path string) (err error) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("create a secret file: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("create a secret file: %w", err), os.Remove(path))
		}
	}()
	_, err = io.WriteString(file, Generate()+"\n")
	return errors.Join(err, file.Sync(), file.Close())
}
