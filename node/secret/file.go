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
	file, err := os.Open(path)
	if err != nil {
		return Set{}, fmt.Errorf("secret file: %w", err)
	}
	defer file.Close()
	info, err := file.Stat() // of what is open, not of what may have taken its name since
	if err != nil {
		return Set{}, fmt.Errorf("secret file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return Set{}, fmt.Errorf("secret file %s is no file", path)
	}
	if problem := exposed(info); problem != "" {
		return Set{}, fmt.Errorf("secret file %s %s; run: chmod 600 %s", path, problem, path)
	}
	text, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err != nil {
		return Set{}, fmt.Errorf("secret file: %w", err)
	}
	set, err := Parse(text)
	if err != nil {
		return Set{}, fmt.Errorf("secret file %s: %w", path, err)
	}
	return set, nil
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
