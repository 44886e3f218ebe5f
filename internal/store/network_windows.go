package store

import (
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/windows"
)

func init() { networkFS = remote }

// remote says what is remote about dir, "" if it is local.
func remote(dir string) (string, error) {
	volume := filepath.VolumeName(dir)
	device := strings.HasPrefix(volume, `\\?\`) || strings.HasPrefix(volume, `\\.\`)
	if strings.HasPrefix(volume, `\\`) && (!device || strings.HasPrefix(strings.ToUpper(dir[4:]), `UNC\`)) {
		return "a share of " + volume, nil
	}
	path, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return "", err
	}
	root := make([]uint16, len(dir)+windows.MAX_PATH)
	if err := windows.GetVolumePathName(path, &root[0], uint32(len(root))); err != nil {
		return "", &os.PathError{Op: "GetVolumePathName", Path: dir, Err: err}
	}
	if windows.GetDriveType(&root[0]) == windows.DRIVE_REMOTE {
		return "drive " + windows.UTF16ToString(root), nil
	}
	return "", nil
}
